//! `cargo xtask bench`: what a registration, an idle connection, many enrollments and many groups cost, what it costs to
//! manage them, how long devices wait for hubs outside, and what becomes of many that come at one time. How to read the figures:
//! docs/performance.md.

mod configuration;
mod enrollments;
mod groups;
mod hubs;
mod machinery;
mod management;
mod memory;
mod proc_files;
mod process;
mod register;
mod report;
mod round;
mod statistics;
mod storm;
mod transports;

use crate::step::Failure;
use crate::workspace::Workspace;
use machinery::Machinery;

/// What to measure, and how thoroughly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    subject: Subject,
    effort: Effort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Register,
    Enrollments,
    Groups,
    Transports,
    Management,
    Hubs,
    Storm,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// What figures are published from.
    Full,
    /// What tells within a minute or two whether a change goes the right way.
    Quick,
}

impl Effort {
    /// One of two numbers.
    fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }

    /// Interleaved rounds, of which the median counts.
    fn rounds(self) -> usize {
        self.of(5, 3)
    }
}

impl Plan {
    /// Reads `register|transports|enrollments|groups|management|hubs|storm [--quick]`. `None` where the arguments are something else.
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let (subject, rest) = arguments.split_first()?;
        let subject = match subject.as_str() {
            "register" => Subject::Register,
            "enrollments" => Subject::Enrollments,
            "groups" => Subject::Groups,
            "transports" => Subject::Transports,
            "management" => Subject::Management,
            "hubs" => Subject::Hubs,
            "storm" => Subject::Storm,
            _ => return None,
        };
        let effort = match rest {
            [] => Effort::Full,
            [quick] if quick == "--quick" => Effort::Quick,
            _ => return None,
        };
        Some(Self { subject, effort })
    }
}

/// Builds, measures, and prints tables on standard output.
///
/// # Errors
/// Where something cannot be built or started, a device was not assigned, or an enrollment not written. A missed target is no failure: it stands
/// beside its figure.
pub(crate) fn run(workspace: &Workspace, plan: &Plan) -> Result<(), Failure> {
    let machinery = Machinery::build(workspace)?;
    match plan.subject {
        Subject::Register => {
            register::run(&machinery, plan.effort)?;
            memory::run(&machinery, plan.effort)
        }
        Subject::Enrollments => enrollments::run(&machinery, plan.effort),
        Subject::Groups => groups::run(&machinery, plan.effort),
        Subject::Transports => transports::run(&machinery, plan.effort),
        Subject::Management => management::run(&machinery, plan.effort),
        Subject::Hubs => hubs::run(&machinery, plan.effort),
        Subject::Storm => storm::run(&machinery, plan.effort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: Option<(Subject, Effort)>) {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let expected = expected.map(|(subject, effort)| Plan { subject, effort });
        assert_eq!(Plan::parse(&arguments), expected);
    }

    #[test]
    fn a_plan_is_a_subject_and_perhaps_quick() {
        check(&["register"], Some((Subject::Register, Effort::Full)));
        check(&["register", "--quick"], Some((Subject::Register, Effort::Quick)));
        check(&["enrollments"], Some((Subject::Enrollments, Effort::Full)));
        check(&["groups", "--quick"], Some((Subject::Groups, Effort::Quick)));
        check(&["transports"], Some((Subject::Transports, Effort::Full)));
        check(&["management", "--quick"], Some((Subject::Management, Effort::Quick)));
        check(&["hubs"], Some((Subject::Hubs, Effort::Full)));
        check(&["storm", "--quick"], Some((Subject::Storm, Effort::Quick)));
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        check(&[], None);
        check(&["--quick"], None);
        check(&["registers"], None);
        check(&["groups", "--quick", "1000"], None);
    }
}
