//! How fast addresses are found: `cargo bench -p landfall-ipam`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use landfall_config::{Config, Labels, Resources};
use landfall_ipam::{Families, Family, Ipam, Port, Protocol, Request, ServiceKey};
use serde_json::json;

/// So many allocations make one measured batch.
const BATCH: u32 = 1000;

fn config(addresses: &str) -> Config {
    let pool = json!({"metadata": {"name": "p"}, "spec": {"addresses": [addresses]}});
    let pools = vec![serde_json::from_value(pool).expect("a pool")];
    let (config, problems) = Config::read(&Resources { pools, ..Resources::default() });
    assert!(problems.is_empty(), "{problems:?}");
    config
}

/// What requests borrow.
struct Services {
    keys: Vec<ServiceKey>,
    labels: Labels,
    ports: BTreeSet<Port>,
}

impl Services {
    fn new(names: std::ops::Range<u32>) -> Self {
        let key = |n| ServiceKey { namespace: format!("ns{}", n % 100).into(), name: format!("service-{n:07}").into() };
        let port = Port { protocol: Protocol::Tcp, number: 80 };
        Self { keys: names.map(key).collect(), labels: Labels::new(), ports: [port].into() }
    }

    fn requests(&self, family: Family) -> impl Iterator<Item = Request<'_>> {
        self.keys.iter().map(move |service| Request {
            service,
            labels: &self.labels,
            namespace_labels: &self.labels,
            families: Families::Single(family),
            ips: &[],
            pool: None,
            sharing: None,
            ports: &self.ports,
        })
    }
}

fn allocate_all<'a>(ipam: &mut Ipam, config: &Config, requests: impl Iterator<Item = Request<'a>>) {
    for request in requests {
        black_box(ipam.allocate(config, &request).expect("an address is free"));
    }
}

/// A million addresses of which 999 of 1,000 are held, the free ones spread over the whole pool.
fn nearly_full_pool(bench: &mut Criterion) {
    let config = config("10.0.0.0-10.15.66.63");
    let holders = Services::new(0..1_000_000);
    let mut full = Ipam::default();
    allocate_all(&mut full, &config, holders.requests(Family::V4));
    for key in holders.keys.iter().step_by(1000) {
        full.release(key);
    }
    let new = Services::new(2_000_000..2_000_000 + BATCH);
    let mut group = bench.benchmark_group("allocate");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("pool of 1,000,000, 99.9 % full", |bench| {
        bench.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let start = std::time::Instant::now();
                allocate_all(&mut full, &config, new.requests(Family::V4));
                spent += start.elapsed();
                // Giving back is not what is measured.
                new.keys.iter().for_each(|key| drop(full.release(key)));
            }
            spent
        });
    });
    group.finish();
}

fn prefix_of_64_bits(bench: &mut Criterion) {
    let config = config("2001:db8::/64");
    let new = Services::new(0..BATCH);
    let mut group = bench.benchmark_group("allocate");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("a /64", |bench| {
        bench.iter_batched(
            Ipam::default,
            |mut ipam| {
                allocate_all(&mut ipam, &config, new.requests(Family::V6));
                ipam
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn adoption(bench: &mut Criterion) {
    let config = config("10.0.0.0/8");
    let services = Services::new(0..100_000);
    let ips: Vec<IpAddr> = (0..100_000_u32).map(|n| IpAddr::from((0x0a00_0000 + n * 7).to_be_bytes())).collect();
    let mut group = bench.benchmark_group("adopt");
    group.sample_size(10).throughput(Throughput::Elements(100_000));
    group.bench_function("100,000 Services", |bench| {
        bench.iter_batched(
            Ipam::default,
            |mut ipam| {
                for (request, ip) in services.requests(Family::V4).zip(&ips) {
                    black_box(ipam.assign(&config, &request, &[*ip]).expect("it is free"));
                }
                ipam
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, nearly_full_pool, prefix_of_64_bits, adoption);
criterion_main!(benches);
