//! Which configuration is in force while users make mistakes.

use crate::{Config, Problem, Resources};

/// Keeps the configuration in force: a mistake in a user's object leaves the last good one untouched, so that nothing
/// that is announced gets lost by it.
///
/// Pools and L2Advertisements are one half, the BGP kinds are the other. A mistake about a BGP object holds back the BGP
/// kinds only. One about a pool or an L2Advertisement holds back both, for what is advertised by BGP is judged beside the
/// pools.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    current: Option<Config>,
    /// Whether the pools and L2Advertisements of `current` were taken in spite of problems.
    partial: bool,
    /// Whether the BGP half of `current` was.
    bgp_partial: bool,
    /// What the objects say now, as far as it can be read.
    latest: Config,
    problems: Vec<Problem>,
}

/// What a [`Loader::load`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The pools or L2Advertisements in force are others now.
    pub config_changed: bool,
    /// What is in force of the BGP kinds is something else now.
    pub bgp_changed: bool,
    /// The list of problems is another one now.
    pub problems_changed: bool,
}

impl Loader {
    /// Takes the objects as they stand now. Without problems they come into force. With problems the last good
    /// configuration stays; where there was none since the process started, what can be read comes into force.
    pub fn load(&mut self, resources: &Resources) -> Loaded {
        let (config, problems) = Config::read(resources);
        let problems_changed = problems != self.problems;
        self.problems = problems;
        let (held_back, bgp_held_back) = (self.holding_back().next().is_some(), !self.problems.is_empty());

        let first = self.current.is_none();
        let current = self.current.get_or_insert_default();
        let mut loaded = Loaded { config_changed: first, bgp_changed: first, problems_changed };
        if first || self.partial || !held_back {
            loaded.config_changed |=
                current.pools != config.pools || current.l2_advertisements != config.l2_advertisements;
            current.pools.clone_from(&config.pools);
            current.l2_advertisements.clone_from(&config.l2_advertisements);
            self.partial = held_back;
        }
        if first || self.bgp_partial || !bgp_held_back {
            loaded.bgp_changed |= current.bgp != config.bgp;
            current.bgp.clone_from(&config.bgp);
            self.bgp_partial = bgp_held_back;
        }
        self.latest = config;
        loaded
    }

    /// Whether the pools and L2Advertisements in force were taken in spite of problems, because there were none before:
    /// what no pool contains now may belong to the part that could not be read.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Whether the pool is in force as it stands now, and not held back by a mistake somewhere.
    pub fn pool_in_force(&self, name: &str) -> bool {
        self.current.as_ref().is_some_and(|current| current.pools.get(name) == self.latest.pools.get(name))
    }

    /// Whether the L2Advertisement is in force as it stands now, and not held back by a mistake somewhere.
    pub fn l2_advertisement_in_force(&self, name: &str) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.l2_advertisements.get(name) == self.latest.l2_advertisements.get(name))
    }

    /// The configuration in force; `None` before the first load.
    pub fn config(&self) -> Option<&Config> {
        self.current.as_ref()
    }

    /// What is wrong with the objects as they stand now, sorted; empty when all is well.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems that keep pools and L2Advertisements from taking force, sorted.
    pub fn holding_back(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| !problem.is_about_bgp())
    }
}
