//! Watches over the whole client, against a server that does what servers and networks do: it sends faster than we take,
//! it forgets, it breaks off, it falls silent.

mod far_end;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use far_end::{Server, gone, service};
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher;
use kube::{Api, Client};
use landfall_runtime::table::Table;
use landfall_runtime::watch::Change::{self, Applied, Deleted, ListDone, Listed, Restarted};
use landfall_runtime::watch::{CHANNEL_BOUND, spawn};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Name and version: all that the owner keeps.
type Small = (String, Option<u64>);

/// A watch of Services, and what its owner is told.
fn watch(client: &Client) -> mpsc::Receiver<Change<Small>> {
    let (to_owner, changes) = mpsc::channel(CHANNEL_BOUND);
    let read = |service: Service| {
        let version = service.metadata.resource_version.and_then(|version| version.parse().ok());
        (service.metadata.name.unwrap_or_default(), version)
    };
    spawn(Api::<Service>::all(client.clone()), watcher::Config::default(), read, to_owner, std::convert::identity);
    changes
}

/// The client, its server, and a watch that has just begun with these Services listed at version 10.
async fn watching(names: &[&str]) -> (Client, Server, mpsc::Receiver<Change<Small>>, far_end::Watch) {
    let (client, mut server) = far_end::connect();
    let mut changes = watch(&client);
    let services: Vec<_> = names.iter().map(|name| service(name, 1, 0)).collect();
    server.call().await.list(&services, 10, "").await;
    let stream = server.call().await.watch(10).await;
    for _ in 0..names.len() + 2 {
        changes.recv().await.expect("the watch goes on");
    }
    (client, server, changes, stream)
}

/// An owner that keeps a [`Table`], and all that it was told.
struct Owner {
    changes: mpsc::Receiver<Change<Small>>,
    table: Table<String, u64>,
}

impl Owner {
    /// The next change, and the names that the table calls changed by it.
    async fn next(&mut self) -> (Change<Small>, Vec<String>) {
        let change = self.changes.recv().await.expect("the watch goes on");
        let changed = self.table.apply(change.clone());
        (change, changed.into_iter().map(|(name, _)| name).collect())
    }

    fn known(&self) -> Vec<(&str, u64)> {
        self.table.entries().iter().map(|(name, version)| (name.as_str(), *version)).collect()
    }
}

fn small(name: &str, version: u64) -> Small {
    (name.to_owned(), Some(version))
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_ten_thousand_events_waits_at_the_server_until_its_owner_takes_them() {
    const EVENTS: u64 = 10_000;
    const PADDING: usize = 4000;
    // What the server can get rid of while nobody takes anything, in octets of the wire: the channel, whose events are small by
    // then; hyper's buffer, which grows to 408 KiB and no further; and the socket pair's, by default 208 KiB. That is 1.7 MB;
    // more than twice this would be a buffer that nobody knows of. All the events are 41 MB.
    const BOUND: usize = 3_400_000;
    let (_client, _server, mut changes, mut stream) = watching(&[]).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        for number in 1..=EVENTS {
            stream.event("ADDED", &service(&format!("s{number}"), 10 + number, PADDING), &counter).await;
        }
        stream
    });

    sleep(Duration::from_secs(1)).await; // the clock is paused: it has passed when neither side can do anything any more
    let stuck = sent.load(Ordering::Relaxed);
    println!("{stuck} octets left the server");
    assert!(!sender.is_finished() && stuck < BOUND, "{stuck} octets left the server while nobody took an event");
    assert!(stuck > CHANNEL_BOUND * PADDING, "{stuck} octets are less than the channel holds");

    for number in 1..=EVENTS {
        assert_eq!(changes.recv().await.unwrap(), Applied(small(&format!("s{number}"), 10 + number)));
    }
    assert!(sent.load(Ordering::Relaxed) > EVENTS as usize * PADDING);
    let _stream = sender.await.unwrap();
    assert!(timeout(Duration::from_secs(1), changes.recv()).await.is_err(), "nothing comes twice");
}

#[tokio::test(start_paused = true)]
async fn a_relist_forgets_what_is_gone_and_nothing_else_and_not_before_it_is_complete() {
    let (client, mut server) = far_end::connect();
    let mut owner = Owner { changes: watch(&client), table: Table::default() };
    let (counter, nobody) = (AtomicUsize::new(0), Vec::<String>::new());

    server.call().await.list(&[service("a", 1, 0), service("b", 2, 0), service("c", 3, 0)], 10, "").await;
    let mut stream = server.call().await.watch(10).await;
    stream.event("MODIFIED", &service("a", 11, 0), &counter).await;
    for expected in [
        (Restarted, nobody.clone()),
        (Listed(small("a", 1)), vec!["a".to_owned()]),
        (Listed(small("b", 2)), vec!["b".to_owned()]),
        (Listed(small("c", 3)), vec!["c".to_owned()]),
        (ListDone, nobody.clone()),
        (Applied(small("a", 11)), vec!["a".to_owned()]),
    ] {
        assert_eq!(owner.next().await, expected);
    }

    // Meanwhile b is deleted and d made, and the server forgets how far we were.
    stream.event("ERROR", &gone(), &counter).await;
    server.call().await.list(&[service("a", 11, 0)], 20, "page-2").await;
    let second = server.call().await;
    assert_eq!(second.parameter("continue"), Some("page-2"));
    drop(second); // the connection breaks in the middle of the list
    for expected in [(Restarted, nobody.clone()), (Listed(small("a", 11)), nobody.clone())] {
        assert_eq!(owner.next().await, expected);
    }
    let again = server.call().await;
    assert_eq!(again.parameter("continue"), None, "a list that broke off begins at its beginning");
    again.list(&[service("a", 11, 0)], 21, "page-2").await;
    let second = server.call().await;
    for expected in [(Restarted, nobody.clone()), (Listed(small("a", 11)), nobody.clone())] {
        assert_eq!(owner.next().await, expected);
    }
    assert_eq!(owner.known(), [("a", 11), ("b", 2), ("c", 3)], "half a list is no reason to forget");
    second.list(&[service("c", 3, 0), service("d", 15, 0)], 21, "").await;
    for expected in [
        (Listed(small("c", 3)), nobody.clone()),
        (Listed(small("d", 15)), vec!["d".to_owned()]),
        (ListDone, vec!["b".to_owned()]),
    ] {
        assert_eq!(owner.next().await, expected);
    }
    assert_eq!(owner.known(), [("a", 11), ("c", 3), ("d", 15)]);

    let mut stream = server.call().await.watch(21).await;
    stream.event("DELETED", &service("c", 22, 0), &counter).await;
    assert_eq!(owner.next().await, (Deleted(small("c", 22)), vec!["c".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_after_the_last_complete_event() {
    let (_client, mut server, mut changes, mut stream) = watching(&["a"]).await;
    let counter = AtomicUsize::new(0);
    stream.event("MODIFIED", &service("a", 11, 0), &counter).await;
    stream.end().await;
    let mut stream = server.call().await.watch(11).await;
    stream.event("MODIFIED", &service("a", 12, 0), &counter).await;
    stream.break_off("MODIFIED", &service("a", 13, 0)).await;
    let mut stream = server.call().await.watch(12).await;
    stream.event("MODIFIED", &service("a", 13, 0), &counter).await;
    for version in [11, 12, 13] {
        assert_eq!(changes.recv().await.unwrap(), Applied(small("a", version)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_because_its_place_is_forgotten_lists_anew() {
    let (_client, mut server, mut changes, stream) = watching(&["a"]).await;
    stream.end().await;
    let began = Instant::now();
    for version in [20, 30, 40, 50] {
        let refused = server.call().await;
        assert!(refused.is_watch());
        refused.answer(410, gone()).await;
        server.call().await.list(&[service("a", 1, 0)], version, "").await;
        for expected in [Restarted, Listed(small("a", 1)), ListDone] {
            assert_eq!(changes.recv().await.unwrap(), expected);
        }
    }
    // 0.5, 1, 2 and 4 s, each shortened by a half at most.
    assert!(began.elapsed() >= Duration::from_secs(3), "refused again and again it is asked without a pause");
    let _stream = server.call().await.watch(50).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_on_which_the_server_falls_silent_is_made_anew_within_a_minute() {
    let (client, mut server, mut changes, _silent) = watching(&["a"]).await;
    // A second connection, which waits for its next request and dies with the first.
    let (version, ()) = tokio::join!(client.apiserver_version(), async {
        server
            .call()
            .await
            .answer(
                200,
                serde_json::json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
            )
            .await;
    });
    version.unwrap();
    server.go_silent();
    let since = Instant::now();

    let mut stream = server.call().await.watch(10).await;
    println!("made anew after {:?}", since.elapsed());
    assert!(since.elapsed() <= Duration::from_secs(60), "only after {:?}", since.elapsed());
    stream.event("MODIFIED", &service("a", 11, 0), &AtomicUsize::new(0)).await;
    assert_eq!(changes.recv().await.unwrap(), Applied(small("a", 11)));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_asked_for_again_within_a_minute() {
    let (client, mut server) = far_end::connect();
    let mut changes = watch(&client);
    let _unanswered = server.call().await;
    let since = Instant::now();
    let again = server.call().await;
    println!("asked for again after {:?}", since.elapsed());
    assert!(since.elapsed() <= Duration::from_secs(60), "only after {:?}", since.elapsed());
    again.list(&[service("a", 1, 0)], 10, "").await;
    for expected in [Restarted, Restarted, Listed(small("a", 1)), ListDone] {
        assert_eq!(changes.recv().await.unwrap(), expected);
    }
}
