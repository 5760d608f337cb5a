//! What one member knows of another.

use std::time::{Duration, Instant};

use crate::damping::Damping;
use crate::message::{MAX_MESSAGE, Status};
use crate::seal::{Keys, Refusal, Sealed, SenderKeys};
use crate::verdict::Ballot;
use crate::watch::Watch;
use crate::window::Window;
use crate::{Down, Macs, Member, MemberId, View};

/// One start of a member's speaker.
struct Session {
    number: u64,
    /// The highest incarnation that was heard in it.
    incarnation: u64,
    window: Window,
}

/// Another member.
pub(crate) struct Peer {
    pub(crate) member: Member,
    /// Made when it is first heard while we watch it.
    keys: Option<Box<SenderKeys>>,
    /// Its present session and the datagrams of it that have come.
    session: Option<Session>,
    /// The highest incarnation that it, or anybody, has named.
    pub(crate) incarnation: u64,
    /// Until when words about an earlier incarnation do not count: they were under way when it refuted them.
    pub(crate) refuted_until: Option<Instant>,
    pub(crate) status: Option<Status>,
    pub(crate) down: Down,
    pub(crate) macs: Macs,
    pub(crate) view: View,
    /// Present while we are one of its observers.
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) ballot: Ballot,
    pub(crate) damping: Damping,
    /// When we last answered something that others could make us answer again and again.
    pub(crate) answered: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            member,
            keys: None,
            session: None,
            incarnation: 0,
            refuted_until: None,
            status: None,
            down: Down::default(),
            macs: Macs::default(),
            view: View::Alive,
            watch: None,
            ballot: Ballot::default(),
            damping: Damping::default(),
            answered: None,
        }
    }

    /// The keys have changed.
    pub(crate) fn forget_keys(&mut self) {
        self.keys = None;
    }

    /// Opens a datagram of it. The keys of one that we watch are kept, since it beats; those of all the others would be most
    /// of what a large cluster costs, and are made for each of the few datagrams that they send us.
    ///
    /// # Errors
    /// [`Refusal::Key`], [`Refusal::Seal`].
    pub(crate) fn open<'b>(
        &mut self,
        id: MemberId,
        cluster: &Keys,
        sealed: &Sealed<'_>,
        buffer: &'b mut [u8; MAX_MESSAGE],
    ) -> Result<&'b [u8], Refusal> {
        if self.watch.is_none() {
            self.keys = None;
            return cluster.of(id).open(cluster, sealed, buffer);
        }
        self.keys.get_or_insert_with(|| Box::new(cluster.of(id))).open(cluster, sealed, buffer)
    }

    /// Whether a datagram may be new; asked before its seal is opened.
    ///
    /// # Errors
    /// [`Refusal::Replay`].
    pub(crate) fn may_be_new(&self, session: u64, number: u32) -> Result<(), Refusal> {
        match &self.session {
            Some(known) if known.number == session && !known.window.is_new(number) => Err(Refusal::Replay { number }),
            _ => Ok(()),
        }
    }

    /// Takes note of a datagram whose seal was right. Returns whether it is the newest: what an older one says is out of date.
    ///
    /// # Errors
    /// [`Refusal::Session`] when it belongs to an earlier start of the sender than one that is known, or the sender's clock was
    /// set back: then it must be told.
    pub(crate) fn accept(&mut self, session: u64, number: u32, incarnation: u64) -> Result<bool, Refusal> {
        let known = match &mut self.session {
            Some(known) if known.number == session => {
                let newest = known.window.mark(number);
                known.incarnation = known.incarnation.max(incarnation);
                return Ok(newest);
            }
            Some(known) => known.incarnation.checked_add(1),
            None => Some(0),
        };
        if known.is_none_or(|least| incarnation < least.max(self.incarnation)) {
            return Err(Refusal::Session);
        }
        let mut window = Window::default();
        window.mark(number);
        self.session = Some(Session { number: session, incarnation, window });
        Ok(true)
    }
}
