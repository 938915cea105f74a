//! The signals that end the service or make it read files again, and the one that must not end it. Spec: DPS-DEV-5, DPS-DEV-7,
//! DPS-SERVE-13, DPS-SERVE-18.

use tokio::signal::unix::{self, SignalKind};

/// A file that reaches the limit to the size of files (`LimitFSIZE=`, `ulimit -f`) becomes an error for whoever writes it, as a full
/// disk is, and no longer the end of the process. Within a runtime.
pub(crate) fn outlive_file_size_limit() -> std::io::Result<()> {
    let exceeded = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // Caught from now on, whether or not anyone listens.
    unix::signal(exceeded).map(drop)
}

/// What a signal asks for.
pub(crate) enum Signal {
    /// SIGTERM or Ctrl-C.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals of this process.
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// The next that asks to stop.
    pub(crate) async fn stop(&mut self) {
        while let Signal::Reload = self.next().await {}
    }
}
