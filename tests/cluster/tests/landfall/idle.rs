//! Promise 6: no write to the API when nothing changes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use landfall_cluster_tests::audit::Audit;
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{advertisement, annotated, families, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use serde_json::json;

/// Nothing is due any more after this long without a write: reports on pools wait a few seconds at most.
const SETTLED: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

#[test]
fn an_allocation_is_one_write_and_an_idle_minute_makes_none() -> Result<()> {
    with_landfall("idle", |scene| {
        let since_start = Audit::from_now(&scene.lab)?;
        let hopeless = annotated(service("hopeless", json!({})), "metallb.io/address-pool", "nowhere");
        scene.start(&[
            pool("idle", &["172.30.0.180-172.30.0.184", "172.30.0.186-172.30.0.189", "fd00:30::180-fd00:30::184"]),
            advertisement("idle", json!({})),
            pods(1, &["8080"], None),
            service("four", families(&["IPv4"])),
            service("six", families(&["IPv6"])),
            service("both", families(&["IPv4", "IPv6"])),
            pool("silent", &["172.30.0.185/32"]),
            annotated(service("unannounced", json!({})), "metallb.io/address-pool", "silent"),
            hopeless,
        ])?;
        for name in ["four", "six", "both"] {
            scene.service(name).wait_for_allocated("True")?;
            scene.service(name).wait_for_announcer()?;
            scene.service(name).wait_for_announced("Announced", " answers for ")?;
        }
        scene.service("unannounced").wait_for_announced("NoMatchingAdvertisement", "no L2Advertisement selects")?;
        scene.service("hopeless").wait_for_allocated("False")?;
        let count = wait_for_silence(&since_start)?;
        // 5 Services, 3 ServiceL2Statuses with their status, and of 4 Services whether they are announced: fewer would mean that
        // the log does not show our writes.
        assert!(count >= 15, "{:?}", since_start.writes_of_landfall()?);

        let allocations = Audit::from_now(&scene.lab)?;
        let late = ["late-1", "late-2", "late-3"];
        scene.apply(&late.map(|name| service(name, families(&["IPv4"]))))?;
        for name in late {
            scene.service(name).wait_for_announced("Announced", " answers for ")?;
        }
        wait_for_silence(&allocations)?;
        // Address, condition and placement in one.
        let writes = allocations.writes_of_landfall()?;
        let of_controller = writes.iter().filter(|write| write.contains(":landfall-controller"));
        let to_services: Vec<&String> = of_controller.filter(|write| write.contains("/services/")).collect();
        for name in late {
            let uri = format!("/namespaces/{}/services/{name}/status?", scene.namespace);
            assert_eq!(to_services.iter().filter(|write| write.contains(&uri)).count(), 1, "{uri}: {to_services:?}");
        }
        assert_eq!(to_services.len(), late.len(), "{to_services:?}");

        let audit = Audit::from_now(&scene.lab)?;
        thread::sleep(IDLE);
        assert_eq!(audit.writes_of_landfall()?, [""; 0]);
        Ok(())
    })
}

/// Waits until Landfall has written nothing for a while; the number of writes until then.
fn wait_for_silence(audit: &Audit) -> Result<usize> {
    let (mut count, mut since) = (0, Instant::now());
    eventually("end of the writes", || {
        let writes = audit.writes_of_landfall()?;
        if writes.len() != count {
            (count, since) = (writes.len(), Instant::now());
        }
        ensure!(since.elapsed() >= SETTLED, "{count} writes so far, the last: {:?}", writes.last());
        Ok(Some(count))
    })
}
