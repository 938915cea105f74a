//! What Linux tells of a process: CPU time and memory.

/// User and system time, in clock ticks, from the content of `/proc/PID/stat`.
pub(super) fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may itself hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Resident memory in KiB from the content of `/proc/PID/status`.
pub(super) fn resident_kib(status: &str) -> Option<u64> {
    kib(status, "VmRSS:")
}

/// The most that it ever was.
pub(super) fn peak_kib(status: &str) -> Option<u64> {
    kib(status, "VmHWM:")
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_user_and_system_of_all_threads() {
        let stat =
            "4711 (a (b) c) S 1 4711 4711 0 -1 4194304 900 0 0 0 150 27 0 0 20 0 5 0 88 1000 200 184467";
        assert_eq!(cpu_ticks(stat), Some(177));
        assert_eq!(cpu_ticks("4711 (cut) S 1 4711"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn resident_memory_is_found_among_the_rest() {
        let status = "Name:\tfloor\nVmHWM:\t  900 kB\nVmRSS:\t   12345 kB\nRssAnon:\t 1 kB\n";
        assert_eq!((resident_kib(status), peak_kib(status)), (Some(12_345), Some(900)));
        assert_eq!(resident_kib("Name:\tzombie\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let read = |name| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        assert!(cpu_ticks(&read("stat")).is_some());
        assert!(resident_kib(&read("status")).is_some_and(|kib| kib > 0));
    }
}
