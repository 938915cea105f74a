//! `[limits]`: every size, count and wait that a peer can influence. Spec: DPS-SERVE-7.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use dps_server::limits::Limits;

use super::document::Table;
use super::key::{Key, Section, Standard};

/// The longest drain that leaves the unit in `dist/` (`TimeoutStopSec=30`) time for the rest of a stop.
const DRAIN_UNDER_SYSTEMD: Duration = Duration::from_secs(25);

/// One limit: how it is written, and the field it stands for.
pub(super) struct LimitKey {
    pub(super) name: &'static str,
    unit: &'static str,
    range: RangeInclusive<u64>,
    meaning: &'static str,
    pub(super) get: fn(&Limits) -> Option<u64>,
    set: fn(&mut Limits, u64),
}

/// All of them.
pub(super) const LIMITS: [LimitKey; 20] = [
    LimitKey {
        name: "connections",
        unit: "connections",
        // Each listener keeps a place for whoever comes next.
        range: 100..=1_000_000,
        meaning: "Connections at one time, of all listeners together; more wait in the kernel's queue. Each takes a file \
                  descriptor.",
        get: |limits| Some(limits.connections as u64),
        set: |limits, value| limits.connections = size(value),
    },
    LimitKey {
        name: "connections_per_address",
        unit: "connections",
        range: 1..=1_000_000,
        meaning: "Connections at one time from one address. Devices behind one router share an address; an IPv6 address counts as its /64.",
        get: |limits| limits.connections_per_address.map(|value| value as u64),
        set: |limits, value| limits.connections_per_address = Some(size(value)),
    },
    LimitKey {
        name: "unattested_connections",
        unit: "connections",
        range: 1..=1_000_000,
        meaning: "Connections at one time that have not proved themselves yet. Below `connections`, so that strangers cannot \
                  take every place.",
        get: |limits| Some(limits.unattested_connections as u64),
        set: |limits, value| limits.unattested_connections = size(value),
    },
    LimitKey {
        name: "unattested_bytes",
        unit: "bytes",
        range: 1_048_576..=1_099_511_627_776,
        meaning: "Bytes that all connections not yet attested may have buffered together.",
        get: |limits| Some(limits.unattested_bytes as u64),
        set: |limits, value| limits.unattested_bytes = size(value),
    },
    LimitKey {
        name: "handshake_within_s",
        unit: "seconds",
        range: 1..=300,
        meaning: "Time to finish the TLS handshake, and the header of a balancer before it.",
        get: |limits| seconds(limits.handshake_within),
        set: |limits, value| limits.handshake_within = Duration::from_secs(value),
    },
    LimitKey {
        name: "connect_within_s",
        unit: "seconds",
        range: 1..=300,
        meaning: "Time from the TLS handshake to the end of MQTT's CONNECT.",
        get: |limits| seconds(limits.session.connect_within),
        set: |limits, value| limits.session.connect_within = Duration::from_secs(value),
    },
    LimitKey {
        name: "attest_within_s",
        unit: "seconds",
        range: 1..=3_600,
        meaning: "Time from CONNECT to the first request that proves who the device is.",
        get: |limits| seconds(limits.session.attest_within),
        set: |limits, value| limits.session.attest_within = Duration::from_secs(value),
    },
    LimitKey {
        name: "idle_s",
        unit: "seconds",
        range: 10..=86_400,
        meaning: "Time that an attested device may be silent.",
        get: |limits| seconds(limits.session.idle),
        set: |limits, value| limits.session.idle = Duration::from_secs(value),
    },
    LimitKey {
        name: "request_within_s",
        unit: "seconds",
        range: 1..=60,
        meaning: "Time for one request to be decided; then the device is told to ask again. The Java SDK waits 10 s.",
        get: |limits| seconds(limits.request_within),
        set: |limits, value| limits.request_within = Duration::from_secs(value),
    },
    LimitKey {
        name: "write_within_s",
        unit: "seconds",
        range: 1..=300,
        meaning: "Time for a device to take what it is sent.",
        get: |limits| seconds(limits.write_within),
        set: |limits, value| limits.write_within = Duration::from_secs(value),
    },
    LimitKey {
        name: "drain_within_s",
        unit: "seconds",
        range: 1..=300,
        meaning: "Time for connections to end when the service stops. Only requests in flight are awaited, not devices between two \
                  polls: these connect again.",
        get: |limits| seconds(limits.drain_within),
        set: |limits, value| limits.drain_within = Duration::from_secs(value),
    },
    LimitKey {
        name: "requests_in_flight",
        unit: "requests",
        range: 1..=1_000_000,
        meaning: "Requests that are being decided at one time.",
        get: |limits| Some(limits.requests_in_flight as u64),
        set: |limits, value| limits.requests_in_flight = size(value),
    },
    LimitKey {
        name: "registrations_per_minute",
        unit: "registers a minute",
        range: 1..=1_000_000_000,
        meaning: "Registers of each service instance. Azure's limit is 1000.",
        get: |limits| limits.registrations_per_minute.map(|rate| rate.get().into()),
        set: |limits, value| limits.registrations_per_minute = rate(value),
    },
    LimitKey {
        name: "polls_per_device_per_10_s",
        unit: "polls in 10 seconds",
        range: 1..=1_000_000,
        meaning: "Polls of one device. Azure's limit is 5.",
        get: |limits| limits.polls_per_device.map(|rate| rate.get().into()),
        set: |limits, value| limits.polls_per_device = rate(value),
    },
    LimitKey {
        name: "failed_attestations_per_minute",
        unit: "failures a minute",
        range: 0..=1_000_000,
        meaning: "Failed attestations of one address with one registration id; ten times as many of one address with any; 0 is \
                  no limit. A credential that verifies is never refused by it.",
        get: |limits| Some(limits.failed_attestations_per_minute.map_or(0, |rate| rate.get().into())),
        set: |limits, value| limits.failed_attestations_per_minute = rate(value),
    },
    LimitKey {
        name: "guesses_per_minute",
        unit: "failures a minute",
        range: 0..=1_000_000,
        meaning: "Failed attestations after which an address counts as guessing for a minute: its searches for groups come after \
                  everyone else's, and its refusals a quarter of a second later; 0 is never. Devices behind one router share an \
                  address; an IPv6 address counts as its /64.",
        get: |limits| Some(limits.guesses_per_minute.map_or(0, |rate| rate.get().into())),
        set: |limits, value| limits.guesses_per_minute = rate(value),
    },
    LimitKey {
        name: "broker_questions_per_second",
        unit: "questions a second",
        range: 0..=1_000_000,
        meaning: "Questions of a broker at one address; 0 is no limit. A device that connects and subscribes makes it ask about ten times.",
        get: |limits| Some(limits.broker_questions_per_second.map_or(0, |rate| rate.get().into())),
        set: |limits, value| limits.broker_questions_per_second = rate(value),
    },
    LimitKey {
        name: "hub_work",
        unit: "devices",
        range: 1..=4_096,
        meaning: "Devices that are being brought to Azure IoT Hubs at one time. A quarter as many are being removed from hubs that they left.",
        get: |limits| Some(limits.hub_work as u64),
        set: |limits, value| limits.hub_work = size(value),
    },
    LimitKey {
        name: "hub_work_per_hub",
        unit: "devices",
        range: 1..=256,
        meaning: "Of these, those for one hub: what waits for a hub that is slow keeps no other hub waiting.",
        get: |limits| Some(limits.hub_work_per_hub.into()),
        set: |limits, value| {
            limits.hub_work_per_hub = u32::try_from(value).unwrap_or(limits.hub_work_per_hub)
        },
    },
    LimitKey {
        name: "retry_after_s",
        unit: "seconds",
        range: 2..=5,
        meaning: "Time that a device is told to wait before it asks again. Some clients ignore anything else than 2 to 5.",
        get: |limits| Some(limits.retry_after_s.into()),
        set: |limits, value| limits.retry_after_s = u32::try_from(value).unwrap_or(limits.retry_after_s),
    },
];

pub(super) fn section() -> Section {
    let standard = Limits::default();
    let key = |limit: &LimitKey| {
        let form = format!("{}, {} to {}", limit.unit, limit.range.start(), limit.range.end());
        let default = match (limit.get)(&standard) {
            Some(value) => Standard::Value(value.to_string()),
            None => Standard::Nothing("no limit"),
        };
        Key::new(limit.name, form, default, limit.meaning)
    };
    Section {
        path: "limits",
        repeated: false,
        about: "Every size, count and wait that a peer can influence.",
        keys: LIMITS.iter().map(key).collect(),
    }
}

pub(super) fn read(table: &Table<'_>) -> Limits {
    let mut limits = Limits::default();
    for limit in LIMITS {
        if let Some(value) = table.number(limit.name, limit.range.clone()) {
            (limit.set)(&mut limits, value.value);
        }
    }
    let name = "unattested_connections";
    if limits.unattested_connections >= limits.connections && (table.has(name) || table.has("connections")) {
        let why = format!("strangers may take all of the {} connections", limits.connections);
        table.context.warning(table.at(), &table.key(name), why, "make it less than connections");
    }
    if limits.drain_within > DRAIN_UNDER_SYSTEMD {
        let why = "the unit of dist/ ends the service 30 s after it was asked to stop, drained or not";
        let advice = "make it 25 or less, or raise TimeoutStopSec of the unit along with it";
        table.context.warning(table.at(), &table.key("drain_within_s"), why, advice);
    }
    limits
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn seconds(time: Duration) -> Option<u64> {
    Some(time.as_secs())
}

fn rate(value: u64) -> Option<NonZeroU32> {
    u32::try_from(value).ok().and_then(NonZeroU32::new)
}

#[cfg(test)]
mod tests {
    use dps_proto::mqtt::SessionLimits;

    use super::*;

    /// DPS-SERVE-7: a field that no key reaches does not compile here, or is found unchanged.
    #[test]
    fn every_field_of_the_limits_has_a_key() {
        let mut limits = Limits::default();
        for limit in LIMITS {
            let other = match (limit.get)(&limits) {
                Some(value) if value < *limit.range.end() => value + 1,
                Some(value) => value - 1,
                None => *limit.range.start(),
            };
            (limit.set)(&mut limits, other);
            assert_eq!((limit.get)(&limits), Some(other), "{}", limit.name);
        }
        let standard = Limits::default();
        let Limits {
            connections,
            connections_per_address,
            unattested_connections,
            handshake_within,
            session: SessionLimits { connect_within, attest_within, idle },
            request_within,
            write_within,
            drain_within,
            unattested_bytes,
            requests_in_flight,
            registrations_per_minute,
            polls_per_device,
            failed_attestations_per_minute,
            guesses_per_minute,
            broker_questions_per_second,
            hub_work,
            hub_work_per_hub,
            retry_after_s,
        } = limits;
        assert_ne!(connections, standard.connections);
        assert_ne!(connections_per_address, standard.connections_per_address);
        assert_ne!(unattested_connections, standard.unattested_connections);
        assert_ne!(handshake_within, standard.handshake_within);
        assert_ne!(connect_within, standard.session.connect_within);
        assert_ne!(attest_within, standard.session.attest_within);
        assert_ne!(idle, standard.session.idle);
        assert_ne!(request_within, standard.request_within);
        assert_ne!(write_within, standard.write_within);
        assert_ne!(drain_within, standard.drain_within);
        assert_ne!(unattested_bytes, standard.unattested_bytes);
        assert_ne!(requests_in_flight, standard.requests_in_flight);
        assert_ne!(registrations_per_minute, standard.registrations_per_minute);
        assert_ne!(polls_per_device, standard.polls_per_device);
        assert_ne!(failed_attestations_per_minute, standard.failed_attestations_per_minute);
        assert_ne!(guesses_per_minute, standard.guesses_per_minute);
        assert_ne!(broker_questions_per_second, standard.broker_questions_per_second);
        assert_ne!(hub_work, standard.hub_work);
        assert_ne!(hub_work_per_hub, standard.hub_work_per_hub);
        assert_ne!(retry_after_s, standard.retry_after_s);
    }

    /// DPS-SERVE-7
    #[test]
    fn every_default_is_within_its_range() {
        for limit in LIMITS {
            let standard = (limit.get)(&Limits::default());
            assert!(standard.is_none_or(|value| limit.range.contains(&value)), "{}", limit.name);
        }
    }
}
