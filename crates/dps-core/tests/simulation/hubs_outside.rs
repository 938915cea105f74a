//! The workers that ask hubs outside: they claim, freeze past their leases, are cut off, and try what they hold, perhaps again; and the
//! hubs, which refuse, say nothing, and do late what nobody waits for any more. Spec: DPS-REG-40 to DPS-REG-45.

use std::sync::Mutex;

use dps_core::Moment;
use dps_core::ports::WaitingFor;

use crate::asked::Done;
use crate::common::registry::{Fate, Step};
use crate::world::World;

/// Claims that workers hold at most; the oldest is forgotten.
const CLAIMS_MAX: usize = 8;

/// Longer than any pause, and than any call is of use that was given up.
const LONG: i64 = 5_000;

impl World {
    pub(crate) fn claim_placements(&mut self, ahead: i64) {
        while self.placements.len() > CLAIMS_MAX {
            self.placements.remove(0);
        }
        let (registrar, order) = (self.registrar(), self.order(ahead));
        let task = self.spawn(async move {
            let hub = WaitingFor::Hub;
            Done::Claimed(hub, registrar.claim_waiting(hub, order).await)
        });
        self.note(&format!("{task:?} claims what waits for hubs"));
    }

    /// A worker tries what it holds, which may be over or tried already.
    pub(crate) fn place(&mut self) {
        if self.placements.is_empty() {
            return;
        }
        let at = self.prng.below(self.placements.len());
        let repeats = self.prng.percent(20);
        let mut claimed = if repeats { self.placements[at].clone() } else { self.placements.remove(at) };
        // What a worker knows of time keeps it from nothing here.
        let (registrar, clock) = (self.registrar(), self.moments());
        claimed.lease_until = self.nodes.clock(self.clock).after(60);
        let what = format!("places {} under {}", claimed.registration_id, claimed.tries);
        let task = self.spawn(async move { Done::Placed(registrar.place(&claimed, &clock, &|| {}).await) });
        self.note(&format!("{task:?} {what}"));
    }

    pub(crate) fn claim_clean_ups(&mut self) {
        while self.clean_ups.len() > CLAIMS_MAX {
            self.clean_ups.remove(0);
        }
        let ahead = *self.prng.pick(&[0, 60, 50_000]);
        let (registrar, order) = (self.registrar(), self.order(ahead));
        let task = self.spawn(async move { Done::ClaimedCleanUps(registrar.claim_clean_ups(order).await) });
        self.note(&format!("{task:?} claims what is to be gone"));
    }

    /// A worker has a device gone that is to be, or was.
    pub(crate) fn clean_up(&mut self) {
        if self.clean_ups.is_empty() {
            return;
        }
        let at = self.prng.below(self.clean_ups.len());
        let repeats = self.prng.percent(20);
        let mut claimed = if repeats { self.clean_ups[at].clone() } else { self.clean_ups.remove(at) };
        let (registrar, clock) = (self.registrar(), self.moments());
        claimed.due_at = self.nodes.clock(self.clock).after(60);
        let what = format!("has {} gone from {} under {}", claimed.device_id, claimed.hub, claimed.tries);
        let task = self.spawn(async move { Done::CleanedUp(registrar.clean_up(&claimed, &clock).await) });
        self.note(&format!("{task:?} {what}"));
    }

    /// A hub is about to do something else than what it is asked.
    pub(crate) fn trouble_a_hub(&mut self) {
        let steps =
            [Step::Create, Step::Create, Step::Identity, Step::SetAuthentication, Step::Delete, Step::Twin];
        if self.prng.percent(25) {
            let at = self.prng.below(self.registries.len());
            self.note(&format!("hub {at} outside is out of order"));
            return steps.repeat(6).into_iter().for_each(|step| {
                self.registries[at].script(step, Fate::Unavailable);
            });
        }
        let step = *self.prng.pick(&steps);
        let fate = match self.prng.below(if self.lates { 8 } else { 6 }) {
            0 => Fate::Throttled,
            1 => Fate::Unavailable,
            2 => Fate::Lost,
            3 => Fate::Unheard,
            4 => Fate::Refused("no"),
            5 => Fate::Overtaken,
            // For as long as the token is good that the call carries.
            _ => Fate::Late(self.clock.after(3_600)),
        };
        let at = self.prng.below(self.registries.len());
        self.note(&format!("hub {at} outside: the next {step:?} is {fate:?}"));
        for _ in 0..=self.prng.below(4) {
            self.registries[at].script(step, fate.clone());
        }
    }

    pub(crate) fn carry_out_late(&mut self) {
        let at = self.prng.below(self.registries.len());
        if self.registries[at].carry_out_late(self.clock.0) {
            self.note(&format!("hub {at} outside carries out a call that nobody waits for"));
        }
    }

    /// All that waits is tried until nothing is left of it, with hubs that are in the best of health.
    pub(crate) fn hubs_do_as_they_are_asked(&mut self) -> Result<(), String> {
        self.registries.iter().for_each(|registry| registry.forget_script());
        for _ in 0..3 {
            self.placements.clear();
            self.clean_ups.clear();
            for _ in 0..3 {
                self.carry_out_late();
            }
            self.clock.step(LONG);
            for _ in 0..self.devices.len() {
                self.claim_placements(1_000_000);
                self.come_to_rest()?;
                while !self.placements.is_empty() {
                    self.place();
                }
                self.come_to_rest()?;
            }
            for _ in 0..4 * self.devices.len() {
                self.claim_clean_ups_of_all();
                self.come_to_rest()?;
                while !self.clean_ups.is_empty() {
                    self.clean_up();
                }
                self.come_to_rest()?;
            }
        }
        Ok(())
    }

    fn claim_clean_ups_of_all(&mut self) {
        let (registrar, order) = (self.registrar(), self.order(0));
        let task = self.spawn(async move { Done::ClaimedCleanUps(registrar.claim_clean_ups(order).await) });
        self.note(&format!("{task:?} claims what is to be gone"));
    }

    /// The time as it is now, with other random bytes each time.
    fn moments(&mut self) -> impl Fn() -> Moment + Send + Sync + use<> {
        let (now, prng) = (self.nodes.clock(self.clock).0, Mutex::new(self.prng.fork()));
        move || Moment { now, random: prng.lock().unwrap().bytes() }
    }
}
