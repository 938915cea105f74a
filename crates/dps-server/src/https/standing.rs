//! How far a client on port 443 has come, and until when it has to go on. Spec: DPS-LIMIT-3, DPS-HTTPS-9.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dps_proto::mqtt::SessionLimits;
use hyper::upgrade::OnUpgrade;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::end::End;
use crate::admission::Admitted;
use crate::device_request::Proof;
use crate::limits::Charge;
use crate::watched::Watch;

/// How often a client may be asked to prove itself on one connection, or to come back: once and again is what clients need.
/// Spec: DPS-HTTPS-9.
const QUESTIONS_MAX: u32 = 4;

/// Shared by the requests of a connection and the stream under them.
pub(super) struct Standing {
    state: Mutex<State>,
    /// A head has begun to come, which shortens the wait.
    head_began: Notify,
    head_within: Duration,
    idle_within: Duration,
}

struct State {
    /// `None` once a WebSocket has taken it over.
    admitted: Option<Admitted>,
    /// For the certificates that it showed; `None` once it was let in.
    certificates: Option<Charge>,
    /// A request of it was allowed.
    is_let_in: bool,
    /// Its last request was refused, and no other had been allowed.
    is_turned_away: bool,
    /// How often it was asked to prove itself, or to come back.
    questions: u32,
    /// Requests that have no answer yet.
    in_flight: usize,
    /// The time of the last answer to one that was let in, at first that of the connection.
    waiting_since: Instant,
    /// When the first byte of a head came that is not whole yet.
    head_since: Option<Instant>,
    upgrade: Option<OnUpgrade>,
}

impl Standing {
    pub(super) fn new(admitted: Admitted, certificates: Charge, limits: &SessionLimits) -> Self {
        let state = State {
            admitted: Some(admitted),
            certificates: Some(certificates),
            is_let_in: false,
            is_turned_away: false,
            questions: 0,
            in_flight: 0,
            waiting_since: Instant::now(),
            head_since: None,
            upgrade: None,
        };
        Self {
            state: Mutex::new(state),
            head_began: Notify::new(),
            head_within: limits.attest_within,
            idle_within: limits.idle,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something is overdue, unless something happens before; requests in flight have deadlines of their own.
    pub(super) fn deadline(&self) -> Instant {
        let state = self.state();
        if state.in_flight > 0 {
            return Instant::now() + self.head_within;
        }
        match state.head_since {
            // Whoever never proved anything has no more time for a head than for all before it.
            Some(since) if state.is_let_in => since + self.head_within,
            _ if state.is_let_in => state.waiting_since + self.idle_within,
            _ => state.waiting_since + self.head_within,
        }
    }

    /// What has run out by now, if anything has.
    pub(super) fn overdue(&self) -> Option<End> {
        if self.is_in_flight() || Instant::now() < self.deadline() {
            return None;
        }
        let state = self.state();
        Some(match state.is_let_in && state.head_since.is_none() {
            true => End::Idle { after: self.idle_within },
            false => End::HeadTimeout { within: self.head_within },
        })
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
            self.head_began.notify_one();
        }
    }

    /// Returns when the deadline may have changed.
    pub(super) async fn head_began(&self) {
        self.head_began.notified().await;
    }

    pub(super) fn head_came(&self) {
        let mut state = self.state();
        state.in_flight += 1;
        state.head_since = None;
    }

    /// Whether the connection has to end with this answer.
    pub(super) fn answered(&self, proof: Proof) -> bool {
        let mut state = self.state();
        state.in_flight -= 1;
        match proof {
            Proof::Given => {
                state.is_let_in = true;
                state.certificates = None;
                if let Some(admitted) = &mut state.admitted {
                    admitted.attested();
                }
            }
            Proof::Pending | Proof::None if state.is_let_in => {}
            // It has the time that is left of the first one: a question does not prolong it.
            Proof::Pending if state.questions < QUESTIONS_MAX => {
                state.questions += 1;
                return false;
            }
            Proof::Pending | Proof::None => state.is_turned_away = true,
        }
        state.waiting_since = Instant::now();
        state.is_turned_away
    }

    pub(super) fn upgrades(&self, upgrade: OnUpgrade) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.upgrade = Some(upgrade);
    }

    pub(super) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.state().upgrade.take()
    }

    pub(super) fn take_admitted(&self) -> Option<Admitted> {
        let mut state = self.state();
        state.certificates = None;
        state.admitted.take()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.state().in_flight > 0
    }

    pub(super) fn is_turned_away(&self) -> bool {
        self.state().is_turned_away
    }
}

/// Tells when a head begins to come.
impl Watch for Arc<Standing> {
    fn came(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            self.bytes_came();
        }
        Ok(())
    }
}
