//! Rust source as a list of paths: enough of the language to know who names whom.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the crate.
pub(crate) struct Source {
    /// Path below `src/`.
    pub(crate) file: String,
    /// Modules that lead to it: `["store", "etcd", "watch"]`.
    pub(crate) modules: Vec<String>,
    /// Its text, as it is.
    pub(crate) text: String,
    /// Every path in its code, with groups written out: `use a::{b, c::d}` is `a::b` and `a::c::d`.
    /// Unit tests are left out, which stand last in a file or in a file of their own.
    pub(crate) paths: Vec<Named>,
    /// Every word in its code, also with the unit tests left out.
    pub(crate) words: Vec<Named>,
}

/// A path or a word, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// All files below `dir`.
pub(crate) fn sources(dir: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    collect(dir, &mut files);
    files.sort();
    files
        .iter()
        .map(|path| {
            let file = path.strip_prefix(dir).unwrap().to_str().unwrap();
            Source::new(file, &fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// Reads `text` as the file at `file`, below `src/`.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let modules: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        let code = if modules.ends_with(&["tests".to_owned()]) { "" } else { without_tests(text) };
        let tokens = tokens(code);
        let paths = paths(&tokens).into_iter().map(|named| from_root(named, modules.len())).collect();
        let words = tokens.into_iter().filter(|token| is_word(&token.path)).collect();
        Self { file: file.to_owned(), modules, text: text.to_owned(), paths, words }
    }
}

/// A path that climbs out of `depth` modules is one of the crate.
fn from_root(named: Named, depth: usize) -> Named {
    let mut path = named.path.strip_prefix("self::").unwrap_or(&named.path);
    for _ in 0..depth {
        let Some(rest) = path.strip_prefix("super::") else { return named };
        path = rest;
    }
    Named { path: format!("crate::{path}"), ..named }
}

/// Names of the crates that the manifest lists, as code writes them.
pub(crate) fn dependencies() -> Vec<String> {
    let manifest = include_str!("../../Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let list = rest.split("\n[").next().unwrap();
    list.lines().filter_map(|line| Some(line.split_once(" =")?.0.replace('-', "_"))).collect()
}

fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests").next().unwrap()
}

/// Words, `::` and single characters; comments and the insides of literals are left out.
fn tokens(text: &str) -> Vec<Named> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Named { line, path: rest[..length].to_owned() });
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(Named { line, path: rest[..length].to_owned() });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the text or character literal at the beginning of `rest`.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    if let Some(raw) = raw {
        let hashes = raw.bytes().take_while(|byte| *byte == b'#').count();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = rest.len() - raw.len() + hashes + 1;
            return Some(rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()));
        }
    }
    let quote = rest.strip_prefix('b').unwrap_or(rest);
    let begin = rest.len() - quote.len() + 1;
    if quote.starts_with('"') {
        return Some(begin + quoted(&rest[begin..], '"'));
    }
    if quote.starts_with('\'') {
        let mut inside = rest[begin..].chars();
        // `'a'` and `'\n'` are characters, `'a` alone is a lifetime.
        let is_char = match inside.next()? {
            '\\' => true,
            _ => inside.next()? == '\'',
        };
        return is_char.then(|| begin + quoted(&rest[begin..], '\''));
    }
    None
}

fn quoted(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    inside.len()
}

fn paths(tokens: &[Named]) -> Vec<Named> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_word(&tokens[at].path) && tokens.get(at + 1).is_some_and(|next| next.path == "::");
        at = if begins { path(tokens, at, "", &mut paths) } else { at + 1 };
    }
    paths
}

/// Reads one path, with its groups, from `at` on; answers where it ends.
fn path(tokens: &[Named], mut at: usize, prefix: &str, paths: &mut Vec<Named>) -> usize {
    let mut name = prefix.to_owned();
    let line = tokens[at].line;
    while let Some(token) = tokens.get(at) {
        match token.path.as_str() {
            "{" if name.is_empty() || name.ends_with("::") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.path != "}") {
                    // A comma or what is left of `a as b` moves on by itself.
                    at = if is_word(&tokens[at].path) { path(tokens, at, &name, paths) } else { at + 1 };
                }
                return at + 1;
            }
            "::" => name.push_str("::"),
            word if is_word(word) && (name == prefix || name.ends_with("::")) => name.push_str(word),
            _ => break,
        }
        at += 1;
    }
    paths.push(Named { line, path: name.trim_end_matches("::").to_owned() });
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
