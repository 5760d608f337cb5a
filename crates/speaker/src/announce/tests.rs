use super::*;

fn ips(last: impl IntoIterator<Item = u8>) -> BTreeSet<IpAddr> {
    last.into_iter().map(|last| IpAddr::from([192, 0, 2, last])).collect()
}

fn opening(interface: u32, last: impl IntoIterator<Item = u8>) -> Announce {
    Announce { interface, manner: Manner::Opening, addresses: ips(last).into_iter().collect() }
}

fn repeat(interface: u32, last: impl IntoIterator<Item = u8>) -> Announce {
    Announce { manner: Manner::Repeat, ..opening(interface, last) }
}

/// Lets time pass from one due moment to the next until `end`; what was sent when, in milliseconds after `start`.
fn play(announcer: &mut Announcer, start: Instant, end: Duration) -> Vec<(u64, Vec<Announce>)> {
    let mut sent = Vec::new();
    while let Some(due) = announcer.next_due().filter(|due| *due <= start + end) {
        let actions = announcer.handle(Event::Tick, due);
        assert!(!actions.is_empty(), "woken for nothing");
        sent.push((u64::try_from((due - start).as_millis()).expect("short"), actions));
    }
    sent
}

#[test]
fn address_is_announced_at_once_in_a_burst_of_four_and_then_each_minute() {
    let (mut announcer, start) = (Announcer::default(), Instant::now());
    assert_eq!(announcer.handle(Event::Start(3, ips([10])), start), [opening(3, [10])]);
    let played = play(&mut announcer, start, Duration::from_secs(600));
    let refresh = Announce { manner: Manner::Refresh, ..opening(3, [10]) };
    assert!(played[..2].iter().all(|(_, actions)| *actions == [repeat(3, [10])]));
    assert!(played[2..].iter().all(|(_, actions)| *actions == [refresh.clone()]));
    let times: Vec<u64> = played.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[..3], [100, 1100, 3000]);
    let pauses: Vec<u64> = times[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| (55_000..=65_000).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().collect::<BTreeSet<_>>().len() > 1, "no jitter: {pauses:?}");
}

#[test]
fn how_often_it_is_announced_again_can_be_set() {
    let refresh = Refresh::every(Duration::from_secs(12)).unwrap();
    let (mut announcer, start) = (Announcer::new(refresh), Instant::now());
    announcer.handle(Event::Start(3, ips([10])), start);
    let times: Vec<u64> = play(&mut announcer, start, Duration::from_secs(120)).iter().map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = times[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 8 && pauses.iter().all(|pause| (11_000..=13_000).contains(pause)), "{pauses:?}");
}

#[test]
fn thousand_addresses_leave_in_one_batch_each_time_of_the_burst() {
    let (mut announcer, start) = (Announcer::default(), Instant::now());
    let addresses: BTreeSet<IpAddr> = (0..1000).map(|n| IpAddr::from([198, 18, (n >> 8) as u8, n as u8])).collect();
    let first = announcer.handle(Event::Start(3, addresses.clone()), start);
    let batch = Announce { interface: 3, manner: Manner::Opening, addresses: addresses.into_iter().collect() };
    assert_eq!(first, std::slice::from_ref(&batch));
    let all = |manner| vec![Announce { manner, ..batch.clone() }];
    let burst = [(100, all(Manner::Repeat)), (1100, all(Manner::Repeat)), (3000, all(Manner::Refresh))];
    assert_eq!(play(&mut announcer, start, Duration::from_secs(30)), burst);
    let refreshes = play(&mut announcer, start, Duration::from_secs(70));
    assert_eq!(refreshes.iter().flat_map(|(_, actions)| &actions[0].addresses).count(), 1000);
    assert!(refreshes.len() <= 11, "woken {} times for one refresh", refreshes.len());
}

#[test]
fn stopped_address_is_not_announced_again() {
    let (mut announcer, start) = (Announcer::default(), Instant::now());
    announcer.handle(Event::Start(3, ips([10, 11])), start);
    assert_eq!(announcer.handle(Event::Stop(3, ips([10])), start), []);
    assert_eq!(play(&mut announcer, start, Duration::from_millis(500)), [(100, vec![repeat(3, [11])])]);
    announcer.handle(Event::Stop(3, ips([11])), start);
    assert_eq!(announcer.next_due(), None);
}

#[test]
fn each_interface_has_its_own_schedule() {
    let (mut announcer, start) = (Announcer::default(), Instant::now());
    announcer.handle(Event::Start(3, ips([10])), start);
    let later = start + Duration::from_secs(20);
    play(&mut announcer, start, Duration::from_secs(20));
    assert_eq!(announcer.handle(Event::Start(4, ips([10])), later), [opening(4, [10])]);
    assert_eq!(play(&mut announcer, later, Duration::from_millis(100)), [(100, vec![repeat(4, [10])])]);
    announcer.handle(Event::Stop(4, ips([10])), later);
    assert!(announcer.next_due().is_some_and(|due| due > later + Duration::from_secs(30)), "eth3 goes on refreshing");
}

#[test]
fn starting_again_begins_a_new_burst() {
    let (mut announcer, start) = (Announcer::default(), Instant::now());
    announcer.handle(Event::Start(3, ips([10])), start);
    let again = start + Duration::from_millis(1500);
    play(&mut announcer, start, Duration::from_millis(1500));
    assert_eq!(announcer.handle(Event::Start(3, ips([10])), again), [opening(3, [10])]);
    let times: Vec<u64> = play(&mut announcer, again, Duration::from_secs(10)).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [100, 1100, 3000]);
}

#[test]
fn late_tick_sends_what_is_overdue_once() {
    let (mut announcer, start) = (Announcer::default(), Instant::now());
    announcer.handle(Event::Start(3, ips([10])), start);
    let late = start + Duration::from_millis(2500);
    assert_eq!(announcer.handle(Event::Tick, late), [repeat(3, [10])]);
    assert_eq!(announcer.next_due(), Some(start + Duration::from_secs(3)));
}
