//! How does a process live? Logs, probes, metrics, the cluster client, shutdown.
