//! `verify` and `gc`.

use std::{path::Path, process::ExitCode};

use super::{Ask, client, output, table};
use crate::admin::{GC_PATH, GcOrder, GcReport, VERIFY_PATH, VerifyReport};

/// Exit status of `verify` where nothing differs but not everything could be compared.
const CANNOT_TELL: u8 = 2;

/// Shows every difference; the exit status tells whether there is one.
pub(super) fn verify(ask: &Ask) -> ExitCode {
    let shown = client::get_slowly::<VerifyReport>(&ask.socket(), VERIFY_PATH)
        .and_then(|report| ask.print(&report, || table::verify(&report)).map(|()| report));
    match shown {
        Ok(report) => {
            for unknown in &report.unknown {
                output::complain(unknown);
            }
            match (report.differences.is_empty(), report.unknown.is_empty()) {
                (false, _) => ExitCode::FAILURE,
                (true, false) => ExitCode::from(CANNOT_TELL),
                (true, true) => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            let _ = output::finish(Err(error));
            ExitCode::from(CANNOT_TELL)
        }
    }
}

/// Shows what was left behind and what has become of it.
pub(super) fn gc(dry_run: bool, socket: &Path, ask: &Ask) -> ExitCode {
    let shown = client::post::<GcReport>(socket, GC_PATH, &GcOrder { dry_run })
        .and_then(|report| ask.print(&report, || table::gc(&report)).map(|()| report));
    match shown {
        Ok(report) => {
            for unknown in &report.unknown {
                output::complain(unknown);
            }
            let failed = !report.unknown.is_empty() || report.rows.iter().any(|row| row.failed);
            if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => output::finish(Err(error)),
    }
}
