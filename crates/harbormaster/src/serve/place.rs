//! Faults of a configuration that show when it is used.

use std::path::Path;

use anyhow::anyhow;

use crate::configuration::{Fault, Position};
use crate::exit::Failure;

/// The file that an error names.
pub(crate) struct Place {
    file: String,
}

impl Place {
    pub(crate) fn of(file: &Path) -> Self {
        Self { file: file.display().to_string() }
    }

    /// A configuration that cannot be used, as it turned out when it was.
    pub(crate) fn fault(&self, at: Position, key: &str, why: impl ToString, advice: &str) -> Failure {
        let fault = Fault {
            file: self.file.clone(),
            at,
            key: key.to_owned(),
            why: why.to_string(),
            advice: advice.to_owned(),
            grave: false,
        };
        Failure::usage(anyhow!("{fault}"))
    }
}
