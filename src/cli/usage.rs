//! clap explains wrong usage in a paragraph; we do it in one line.

use clap::error::ErrorKind;

/// clap's explanation and hint without its usage text.
pub(super) fn one_line(err: &clap::Error) -> String {
    // clap answers a missing command with the whole help text.
    if matches!(
        err.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        return "a subcommand is missing; see rs-overlay --help".to_owned();
    }
    let text = err.render().to_string();
    let told = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let mut line = String::new();
    for part in told.filter(|part| !part.is_empty()) {
        let (separator, part) = match part.strip_prefix("tip: ") {
            Some(tip) => ("; ", tip),
            None => (" ", part.strip_prefix("error: ").unwrap_or(part)),
        };
        if !line.is_empty() {
            line.push_str(separator);
        }
        line.extend(part.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    line.push_str("; see rs-overlay --help");
    line
}
