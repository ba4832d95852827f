//! `config check`: settings and what becomes of them on this machine.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Format, output, table};
use crate::{
    config::{Flags, SERVICE_CONFIG, SERVICE_ENVIRONMENT, Source, Survey, survey, survey_service},
    daemon::check::{Finding, Verdict, check},
};

pub(super) const CHECK_HELP: &str = "\
Changes nothing. What it prints holds no secret.
Exit status: 0 a daemon with these settings would run, 1 it would not, 64 wrong usage.";

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show every setting and where it comes from, and check whether a daemon with them would run here
    #[command(after_help = CHECK_HELP)]
    Check(Box<Check>),
}

/// What `config check` takes: the daemon's own flags, and how to show what it finds.
#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, reason = "these docstrings are help texts, where backticks would be noise")]
pub(super) struct Check {
    /// Read the environment and the file that the installed service reads (/etc/default/rs-overlay and
    /// /etc/rs-overlay/config.toml) instead of this shell's environment
    #[arg(long)]
    service: bool,

    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    flags: Flags,
}

/// Runs the check and prints all that it finds.
pub(super) fn run(request: Check) -> ExitCode {
    let Check { service, format, flags } = request;
    let plain = !service && flags == Flags::default();
    let survey = if service { survey_service(flags) } else { survey(flags) };
    let findings = match look(&survey) {
        Ok(findings) => findings,
        Err(error) => return output::finish(Err(error)),
    };
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    let printed = match format {
        Format::Json => {
            let json = as_json(&survey, &findings, problems == 0);
            serde_json::to_string_pretty(&json).map_err(Into::into).and_then(|text| output::print(&text))
        }
        Format::Table => output::print(&as_tables(&survey, &findings, problems, warnings, plain)),
    };
    match printed {
        Ok(()) if problems == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        failed => output::finish(failed),
    }
}

/// All that there is to say of the settings; of the machine only if they are right.
fn look(survey: &Survey) -> anyhow::Result<Vec<Finding>> {
    let mut findings: Vec<_> =
        survey.doubts.iter().map(|doubt| Finding::warning("settings", doubt.clone())).collect();
    match &survey.outcome {
        Ok(config) => findings.extend(check(config)?),
        Err(errors) => {
            findings.extend(errors.iter().map(|error| Finding::problem("settings", error.to_string())));
        }
    }
    Ok(findings)
}

fn as_json(survey: &Survey, findings: &[Finding], usable: bool) -> serde_json::Value {
    let settings = survey.settings.iter().map(|setting| {
        json!({
            "name": setting.name,
            "value": setting.value,
            "source": setting.source,
            "place": place(survey, setting.source, &setting.place),
        })
    });
    json!({ "usable": usable, "settings": settings.collect::<Vec<_>>(), "checks": findings })
}

fn as_tables(survey: &Survey, findings: &[Finding], problems: usize, warnings: usize, plain: bool) -> String {
    let settings = survey.settings.iter().map(|setting| {
        let value = if setting.value.is_empty() { "-" } else { &setting.value };
        vec![setting.name.to_owned(), value.to_owned(), place(survey, setting.source, &setting.place)]
    });
    let checks = findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        vec![finding.subject.to_owned(), verdict.to_owned(), finding.told.clone()]
    });
    let told = match (problems, warnings) {
        (0, 0) => "no problem: a daemon with these settings would run here".to_owned(),
        (0, _) => {
            let warnings = counted(warnings, "warning");
            format!("no problem, {warnings}: a daemon with these settings would run here")
        }
        (_, 0) => counted(problems, "problem"),
        (..) => format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning")),
    };
    // systemd reads that file, and this shell does not.
    let hint = if plain && std::path::Path::new(SERVICE_ENVIRONMENT).exists() {
        format!(
            "\nthe installed service reads {SERVICE_ENVIRONMENT} and {SERVICE_CONFIG}: --service checks with those"
        )
    } else {
        String::new()
    };
    format!(
        "{}\n\n{}\n\n{told}{hint}",
        table::grid(&["SETTING", "VALUE", "FROM"], settings),
        table::grid(&["CHECKED", "RESULT", ""], checks)
    )
}

/// Where to change a setting.
fn place(survey: &Survey, source: Source, place: &str) -> String {
    match (source, &survey.file) {
        (Source::File, Some(file)) => file.display().to_string(),
        _ => place.to_owned(),
    }
}

fn counted(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}
