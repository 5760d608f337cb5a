//! Several candidates and one Lease, on virtual time: requests that are lost or late, processes that stop, die and come
//! back, clocks that run at different speeds. Every run is made from its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::election::Jitter;
use super::{Answer, Ask, DURATION, Election, Leadership, Next, Now, RIGHT, Record, Stored};

/// Virtual time since the start of a run, in microseconds.
type Micros = u64;

const SECOND: Micros = 1_000_000;
const MILLI: Micros = 1_000;
/// How long faults go on; what follows is peace.
const FAULTS: Micros = 30 * SECOND;
const END: Micros = FAULTS + 8 * SECOND;
/// How long the candidates' writes may take before they are given up.
const WRITE_LIMIT: Duration = Duration::from_secs(1);
/// How long a write that was given up may still be on its way: all of the margin but what the clocks' speeds eat.
const LATE: Micros = 950 * MILLI;
/// Clocks run up to this much too fast or too slow, in parts per million: a hundred times what computers' clocks do.
const SPEED_PPM: u64 = 5_000;

#[derive(Debug)]
enum Event {
    /// The process looks at what it has to do.
    Wake {
        who: usize,
        life: u32,
    },
    /// A request arrives at the API server.
    Arrive {
        who: usize,
        life: u32,
        id: u64,
        ask: Ask,
        answer_in: Option<Micros>,
    },
    /// The answer arrives at the process; or its time limit is over.
    Answer {
        who: usize,
        life: u32,
        id: u64,
        answer: Answer,
    },
    /// The process writes to a Service, if it may.
    Write {
        who: usize,
    },
    /// That write takes effect.
    Effect {
        who: usize,
        life: u32,
        era: u64,
    },
    /// Something bad, or its end.
    Fault,
    Thaw {
        who: usize,
    },
    Start {
        who: usize,
    },
    Heal {
        who: usize,
    },
}

/// A process that stands for election. It lives several times.
struct Process {
    life: u32,
    election: Option<Election>,
    /// The request under way: its number, what was asked, when on our clock.
    asked: Option<(u64, Ask, Instant)>,
    frozen: bool,
    /// Answers that came while it was frozen.
    mail: Vec<(u64, Answer)>,
    cut_off: bool,
    /// Asked to end: it writes no more, and resigns when no write is under way.
    ending: bool,
    writes_under_way: u32,
    /// Reading of its clock at the start, and its speed in millionths.
    clock: (Micros, u64),
    /// The term in which it was last seen to lead.
    term: Option<u64>,
}

struct World {
    seed: u64,
    dice: Jitter,
    now: Micros,
    epoch: Instant,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    events: std::collections::BTreeMap<u64, Event>,
    ids: u64,
    /// The Lease: what it says, and its version; the version goes on when it is gone.
    lease: Option<Record>,
    version: u64,
    processes: Vec<Process>,
    /// How often somebody became leader.
    reigns: u64,
    /// How often the leading process was another than before, and which it is: by number and life.
    era: u64,
    last_leader: Option<(usize, u32)>,
    /// When somebody last could write, while all is at peace.
    last_led: Micros,
    longest_gap: Micros,
    faults: Faults,
    writes: u64,
}

/// What may go wrong in a run.
#[derive(Clone, Copy, PartialEq)]
enum Faults {
    Everything,
    /// Once, the leader dies for good.
    DeathOfTheLeader,
    /// Once, the leader is asked to end.
    EndOfTheLeader,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut world = World {
            seed,
            dice: Jitter(seed),
            now: 0,
            epoch: Instant::now(),
            queue: BinaryHeap::new(),
            events: Default::default(),
            ids: 0,
            lease: None,
            version: 1,
            processes: Vec::new(),
            reigns: 0,
            era: 0,
            last_leader: None,
            last_led: 0,
            longest_gap: 0,
            faults,
            writes: 0,
        };
        let count = if faults == Faults::Everything { world.draw(2, 5) } else { world.draw(2, 3) };
        for who in 0..count as usize {
            let clock = (world.draw(0, 1000 * SECOND), 1_000_000 - SPEED_PPM + world.draw(0, 2 * SPEED_PPM));
            world.processes.push(Process {
                life: 0,
                election: None,
                asked: None,
                frozen: false,
                mail: Vec::new(),
                cut_off: false,
                ending: false,
                writes_under_way: 0,
                clock,
                term: None,
            });
            world.start(who);
            world.later(0, 0, Event::Write { who });
        }
        world.later(10 * SECOND, 11 * SECOND, Event::Fault);
        world
    }

    /// A number between these, both included.
    fn draw(&mut self, from: u64, to: u64) -> u64 {
        from + self.dice.draw() % (to - from + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.draw(1, n) == 1
    }

    fn later(&mut self, from: Micros, to: Micros, event: Event) {
        let at = self.now + self.draw(from, to);
        self.at(at, event);
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.ids += 1;
        self.queue.push(Reverse((at, self.ids)));
        self.events.insert(self.ids, event);
    }

    /// A process's clock.
    fn clock(&self, who: usize) -> Instant {
        let (start, speed) = self.processes[who].clock;
        self.epoch + Duration::from_micros(start + (u128::from(self.now) * u128::from(speed) / 1_000_000) as u64)
    }

    /// When a process's clock will show this.
    fn when(&self, who: usize, instant: Instant) -> Micros {
        let (start, speed) = self.processes[who].clock;
        let shown = (instant - self.epoch).as_micros() as u64 - start;
        (u128::from(shown) * 1_000_000).div_ceil(u128::from(speed)) as u64
    }

    fn run(mut self) -> Self {
        while let Some(Reverse((at, id))) = self.queue.pop() {
            if at > END || self.faults != Faults::Everything && at > 20 * SECOND {
                break;
            }
            self.now = at;
            if let Some(event) = self.events.remove(&id) {
                self.happen(event);
            }
            self.check();
        }
        self
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { who, life } => {
                if self.processes[who].life == life {
                    self.act(who);
                }
            }
            Event::Arrive { who, life, id, ask, answer_in } => {
                let answer = self.serve(&ask);
                if let Some(delay) = answer_in {
                    self.later(delay, delay, Event::Answer { who, life, id, answer });
                }
            }
            Event::Answer { who, life, id, answer } => self.answered(who, life, id, answer),
            Event::Write { who } => self.write(who),
            Event::Effect { who, life, era } => {
                assert_eq!(era, self.era, "seed {}: a write of {who} takes effect after another leads", self.seed);
                if self.processes[who].life == life {
                    self.processes[who].writes_under_way -= 1;
                    self.end_when_idle(who);
                }
            }
            Event::Fault => self.fault(),
            Event::Thaw { who } => {
                let process = &mut self.processes[who];
                process.frozen = false;
                let life = process.life;
                for (id, answer) in std::mem::take(&mut process.mail) {
                    self.answered(who, life, id, answer);
                }
                self.end_when_idle(who);
                self.act(who);
            }
            Event::Start { who } => self.start(who),
            Event::Heal { who } => self.processes[who].cut_off = false,
        }
    }

    fn start(&mut self, who: usize) {
        let seed = self.dice.draw();
        let process = &mut self.processes[who];
        process.life += 1;
        process.election = Some(Election::new(format!("{who}_{}", process.life), seed));
        (process.asked, process.frozen, process.ending, process.writes_under_way, process.term) =
            (None, false, false, 0, None);
        process.mail.clear();
        let life = process.life;
        self.later(0, 50 * MILLI, Event::Wake { who, life });
    }

    /// The process asks its election what to do.
    fn act(&mut self, who: usize) {
        let instant = self.clock(who);
        // Wall clocks are anything: they jump by hours.
        let hours = self.draw(0, 48) as i64;
        let micros = hours * 3_600_000_000 + self.now as i64;
        let now = Now { instant, wall: Timestamp::from_microsecond(micros).expect("a time") };
        let process = &mut self.processes[who];
        let life = process.life;
        let Some(election) = process.election.as_mut().filter(|_| !process.frozen && process.asked.is_none()) else {
            return;
        };
        match election.next(now) {
            Next::Ask(request) => {
                self.ids += 1;
                let (id, deadline) = (self.ids, instant + request.limit);
                self.processes[who].asked = Some((id, request.ask.clone(), instant));
                self.send(who, life, id, request.ask);
                let at = self.when(who, deadline);
                self.at(at, Event::Answer { who, life, id, answer: Answer::Failed });
            }
            Next::Wait(until) => {
                assert!(until > instant, "seed {}: waits for the past", self.seed);
                let at = self.when(who, until);
                self.at(at, Event::Wake { who, life });
            }
            Next::Done => {
                let process = &mut self.processes[who];
                process.election = None;
                process.life += 1;
                if self.faults == Faults::Everything {
                    self.later(0, 5 * SECOND, Event::Start { who });
                }
            }
        }
    }

    fn send(&mut self, who: usize, life: u32, id: u64, ask: Ask) {
        let rough = self.faults == Faults::Everything && self.now < FAULTS;
        if self.processes[who].cut_off || rough && self.one_in(20) {
            return;
        }
        let slow = rough && self.one_in(10);
        let there = if slow { self.draw(0, 3 * SECOND) } else { self.draw(MILLI / 2, 20 * MILLI) };
        let slow = rough && self.one_in(10);
        let back = if slow { self.draw(0, 3 * SECOND) } else { self.draw(MILLI / 2, 20 * MILLI) };
        let lost = rough && self.one_in(20);
        self.later(there, there, Event::Arrive { who, life, id, ask, answer_in: (!lost).then_some(back) });
    }

    /// What the API server does: one request after the other.
    fn serve(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Read => {
                let version = self.version.to_string();
                return Answer::Found(self.lease.clone().map(|record| Stored { record, version }));
            }
            Ask::Create(_) if self.lease.is_some() => return Answer::Refused,
            Ask::Replace { version, .. } if self.lease.is_none() || *version != self.version.to_string() => {
                return Answer::Refused;
            }
            Ask::Create(record) | Ask::Replace { record, .. } => self.lease = Some(record.clone()),
        }
        self.version += 1;
        Answer::Written(Stored { record: self.lease.clone().expect("just written"), version: self.version.to_string() })
    }

    fn answered(&mut self, who: usize, life: u32, id: u64, answer: Answer) {
        let now = self.clock(who);
        let cut_off = self.processes[who].cut_off && answer != Answer::Failed;
        let process = &mut self.processes[who];
        if process.life != life || cut_off {
            return;
        }
        if process.frozen {
            process.mail.push((id, answer));
            return;
        }
        if let (Some((_, ask, started)), Some(election)) =
            (process.asked.take_if(|(asked, ..)| *asked == id), &mut process.election)
        {
            election.answered(&ask, answer, started, now);
            self.act(who);
        }
    }

    /// Now and then each process writes something, if it may.
    fn write(&mut self, who: usize) {
        self.later(10 * MILLI, 300 * MILLI, Event::Write { who });
        let (now, process) = (self.clock(who), &self.processes[who]);
        let Some(election) = process.election.as_ref().filter(|_| !process.frozen && !process.ending) else { return };
        let leadership = election.leadership(now);
        let Some(term) = leadership.term(now) else { return };
        let Some(limit) = leadership.time_for_write(term, now, WRITE_LIMIT) else { return };
        self.leads(who, term);
        let latest = self.when(who, now + limit) + LATE;
        let at = if self.one_in(3) { self.draw(self.now, latest) } else { latest.min(self.now + 5 * MILLI) };
        self.processes[who].writes_under_way += 1;
        self.writes += 1;
        let (life, era) = (self.processes[who].life, self.era);
        self.at(at, Event::Effect { who, life, era });
    }

    /// Takes note that a process leads.
    fn leads(&mut self, who: usize, term: u64) {
        let process = &mut self.processes[who];
        if process.term.replace(term) != Some(term) {
            self.reigns += 1;
        }
        let leader = (who, process.life);
        if self.last_leader.replace(leader) != Some(leader) {
            self.era += 1;
        }
    }

    fn end_when_idle(&mut self, who: usize) {
        let process = &mut self.processes[who];
        if process.ending
            && !process.frozen
            && process.writes_under_way == 0
            && let Some(election) = &mut process.election
        {
            election.resign();
            self.act(who);
        }
    }

    fn leader(&self) -> Option<usize> {
        (0..self.processes.len()).find(|who| {
            let (now, process) = (self.clock(*who), &self.processes[*who]);
            process.election.as_ref().is_some_and(|election| election.leadership(now).term(now).is_some())
        })
    }

    fn fault(&mut self) {
        if self.faults != Faults::Everything {
            let who = self.leader().expect("after ten seconds of peace somebody leads");
            match self.faults {
                Faults::EndOfTheLeader => {
                    self.processes[who].ending = true;
                    self.end_when_idle(who);
                }
                _ => self.die(who),
            }
            return;
        }
        if self.now < FAULTS {
            self.later(0, 6 * SECOND, Event::Fault);
            let last = self.processes.len() as u64 - 1;
            let anybody = self.draw(0, last) as usize;
            let who = if self.one_in(4) { anybody } else { self.leader().unwrap_or(anybody) };
            let mut until = self.now + self.draw(0, 8 * SECOND);
            until = until.min(FAULTS);
            match self.draw(0, 5) {
                0 | 1 => {
                    if !self.processes[who].frozen {
                        self.processes[who].frozen = true;
                        self.at(until, Event::Thaw { who });
                    }
                }
                2 => {
                    self.die(who);
                    self.at(until, Event::Start { who });
                }
                3 => {
                    self.processes[who].cut_off = true;
                    self.at(until, Event::Heal { who });
                }
                4 => {
                    self.processes[who].ending = true;
                    self.end_when_idle(who);
                }
                // Somebody labels the Lease.
                _ => self.version += 1,
            }
        }
    }

    fn die(&mut self, who: usize) {
        let process = &mut self.processes[who];
        process.life += 1;
        (process.election, process.frozen) = (None, false);
    }

    /// At no time may two write; in peace, somebody may.
    fn check(&mut self) {
        let mut leaders = Vec::new();
        for who in 0..self.processes.len() {
            let now = self.clock(who);
            let leadership = self.processes[who].election.as_ref().map(|election| election.leadership(now));
            if let Some(Leadership::Leader { term, .. }) = leadership {
                self.leads(who, term);
                leaders.push(who);
            }
        }
        assert!(leaders.len() <= 1, "seed {}: {leaders:?} lead at {} µs", self.seed, self.now);
        if !leaders.is_empty() {
            let peace = if self.faults == Faults::Everything { FAULTS } else { 9 * SECOND };
            if self.now > peace {
                self.longest_gap = self.longest_gap.max(self.now - self.last_led.max(peace));
            }
            self.last_led = self.now;
        }
    }
}

/// How many runs: more with `LANDFALL_LEASE_SEEDS`, from `LANDFALL_LEASE_SEED` on.
fn seeds() -> std::ops::Range<u64> {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let first = number("LANDFALL_LEASE_SEED", 0);
    first..first + number("LANDFALL_LEASE_SEEDS", 2000)
}

#[test]
fn two_never_lead_at_once_and_in_peace_one_does() {
    let (mut reigns, mut writes) = (0, 0);
    for seed in seeds() {
        let world = World::new(seed, Faults::Everything).run();
        let gap = Duration::from_micros(world.longest_gap);
        // What stood in the Lease when peace came may have to run out, after a last request of the old days timed out.
        assert!(gap < Duration::from_millis(6000), "seed {seed}: nobody led for {gap:?} in peace");
        assert!(END - world.last_led < SECOND, "seed {seed}: nobody leads in the end");
        (reigns, writes) = (reigns + world.reigns, writes + world.writes);
    }
    // Else the faults do not reach what they are to break.
    let runs = seeds().count() as u64;
    assert!(reigns > 3 * runs && writes > 50 * runs, "{reigns} reigns and {writes} writes in {runs} runs");
}

#[test]
fn a_dead_leader_is_replaced_within_its_lease_and_one_poll() {
    let longest = seeds().map(|seed| World::new(seed, Faults::DeathOfTheLeader).run().longest_gap).max();
    let longest = Duration::from_micros(longest.expect("some run"));
    // Since the death: the last renewal was up to 0.6 s before it, and was seen up to 0.6 s after it was made.
    assert!(longest > DURATION - RIGHT && longest < Duration::from_millis(3700), "{longest:?}");
}

#[test]
fn a_leader_that_resigns_is_replaced_within_one_poll() {
    let longest = seeds().map(|seed| World::new(seed, Faults::EndOfTheLeader).run().longest_gap).max();
    let longest = Duration::from_micros(longest.expect("some run"));
    assert!(longest > Duration::ZERO && longest < Duration::from_millis(700), "{longest:?}");
}
