//! The metric `metallb_speaker_announced`, with MetalLB's name and labels: 1 for each address that is answered here.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::status::Answered;

/// Reads at each scrape what the status task last found to be answered, so nothing has to be kept in step.
#[derive(Debug)]
pub(crate) struct AnnouncedMetric {
    node: String,
    answered: watch::Receiver<Answered>,
}

impl AnnouncedMetric {
    pub(crate) fn new(node: String, answered: watch::Receiver<Answered>) -> Self {
        Self { node, answered }
    }
}

impl Collector for AnnouncedMetric {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let answered = self.answered.borrow();
        if answered.is_empty() {
            return Ok(()); // a family without series has no header either
        }
        let mut family = encoder.encode_descriptor(
            "metallb_speaker_announced",
            "1 for each address of a Service that this node answers for",
            None,
            MetricType::Gauge,
        )?;
        for (service, ip) in answered.iter() {
            let labels = [
                ("service", service.to_string()),
                ("protocol", "layer2".to_owned()),
                ("node", self.node.clone()),
                ("ip", ip.to_string()),
            ];
            ConstGauge::new(1i64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceKey;
    use prometheus_client::registry::Registry;

    #[test]
    fn each_answered_address_is_one_series_with_metallbs_labels() {
        let (answered, receiver) = watch::channel(Answered::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(AnnouncedMetric::new("n1".into(), receiver)));
        assert_eq!(landfall_runtime::metrics::text(&registry), "");
        let key = ServiceKey { namespace: "shop".into(), name: "web".into() };
        answered.send_replace(Answered::from([(key, "192.0.2.1".parse().unwrap())]));
        let text = landfall_runtime::metrics::text(&registry);
        let series = r#"metallb_speaker_announced{service="shop/web",protocol="layer2",node="n1",ip="192.0.2.1"} 1"#;
        assert!(text.contains(series), "{text}");
    }
}
