//! A file of variables as systemd's `EnvironmentFile=` reads it (systemd.exec(5)).

use std::collections::BTreeMap;

/// What such a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EnvFile {
    /// Name to value.
    pub(super) variables: BTreeMap<String, String>,
    /// Numbers of the lines that are neither a variable nor a comment; systemd passes them over.
    pub(super) ignored: Vec<usize>,
}

/// Reads the file's text. Quotes may surround a value or a part of it, a backslash takes the next character
/// as it is (inside single quotes it is none), and at a line's end it joins the next line.
pub(super) fn parse(text: &str) -> EnvFile {
    let mut file = EnvFile::default();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let mut whole = line.to_owned();
        while ends_with_backslash(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next);
        }
        match whole.split_once('=') {
            Some((name, value)) if is_name(name.trim_end()) => {
                file.variables.insert(name.trim_end().to_owned(), unquoted(value.trim_start()));
            }
            _ => file.ignored.push(index + 1),
        }
    }
    file
}

fn ends_with_backslash(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(good) && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn unquoted(value: &str) -> String {
    let mut plain = String::new();
    // As many characters stay whatever they are: blanks at the end go only if nothing protects them.
    let mut kept = 0;
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), same) if open == same => {
                quote = None;
                kept = plain.len();
            }
            (None | Some('"'), '\\') => {
                plain.extend(characters.next());
                kept = plain.len();
            }
            (_, other) => plain.push(other),
        }
    }
    let end = plain.trim_end().len().max(kept);
    plain.truncate(end);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        let file = parse(
            "# comment\n; another\n\nA=1 \nB = 'two words' \nC=\"say \\\"x\\\"\"\nexport D=1\nE=a\\\nb\nF=\n2G=x\nno variable\nH='a\\b'\nI=a'b c'd\nJ=\"tail  \"  \n",
        );
        let value = |name: &str| file.variables.get(name).map(String::as_str);
        for (name, want) in [
            ("A", "1"),
            ("B", "two words"),
            ("C", "say \"x\""),
            ("E", "ab"),
            ("F", ""),
            ("H", "a\\b"),
            ("I", "ab cd"),
            ("J", "tail  "),
        ] {
            assert_eq!(value(name), Some(want), "{name} of {file:?}");
        }
        assert_eq!(file.variables.len(), 8, "{file:?}");
        assert_eq!(file.ignored, [7, 11, 12]);
    }

    #[test]
    fn no_text_is_too_strange() {
        for text in ["", "\\", "A=\\", "A='", "=", "A=\"\\", "A=b\\\\\n"] {
            parse(text);
        }
        assert_eq!(parse("A=b\\\\\nC=1").variables["A"], "b\\");
    }
}
