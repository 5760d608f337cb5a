//! Labels that we write on our own objects and read on others'.

/// On ServiceL2Status and ServiceBGPStatus: the node that announces.
pub const NODE: &str = "metallb.io/node";
/// On ServiceL2Status and ServiceBGPStatus: the name of the announced Service.
pub const SERVICE_NAME: &str = "metallb.io/service-name";
/// On ServiceL2Status and ServiceBGPStatus: the namespace of the announced Service.
pub const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";
/// On ConfigurationState: `controller` or `speaker`.
pub const COMPONENT_TYPE: &str = "metallb.io/component-type";
/// On the ConfigurationState of a speaker: its node.
pub const NODE_NAME: &str = "metallb.io/node-name";
/// On a Node, with any value: load balancers leave it out. Kubernetes' own label.
pub const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
