//! What the supervisor of the process is told, where there is one that speaks systemd's protocol. Spec: DPS-SERVE-10.

use std::io;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::interval;

/// Every port accepts, and what was to be read again has been.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Files are being read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // systemd tells this reload from an earlier one by the time.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(why) => untold(&why),
    }
}

/// Connections are being drained.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells again and again that the runtime still runs, if the supervisor waits for that.
pub(crate) fn keep_awake() -> JoinHandle<()> {
    tokio::spawn(async {
        let Some(within) = sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) else { return };
        // systemd's advice: at half the time.
        let mut ticks = interval(within / 2);
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    })
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        untold(&why);
    }
}

fn untold(why: &io::Error) {
    tracing::warn!(reason = %why, "the supervisor (NOTIFY_SOCKET) could not be told");
}
