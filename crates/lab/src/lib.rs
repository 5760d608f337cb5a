//! A real Kubernetes cluster in network namespaces: demo, tests, faults, measurements.
