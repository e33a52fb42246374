//! Splits text into tokens.

use std::sync::Arc;

use super::{HoconError, tree::Place};

/// A token. Comments are dropped; white space is kept where it may belong to a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    /// `:` or `=`.
    Assign,
    /// `+=`.
    Append,
    Newline,
    Space(String),
    Quoted(String),
    Unquoted(String),
    Substitution {
        path: Vec<String>,
        optional: bool,
    },
    End,
}

/// Splits a file into tokens.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    rest: &'a str,
    file: Arc<str>,
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, file: Arc<str>) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), file, line: 1 }
    }

    /// Where the next token begins.
    pub(crate) fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line }
    }

    /// The next token; [`Token::End`] forever after the last one.
    pub(crate) fn token(&mut self) -> Result<Token, HoconError> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if is_space(first) {
            return Ok(Token::Space(self.take_while(is_space).to_owned()));
        }
        let simple = match first {
            '{' => Token::LeftBrace,
            '}' => Token::RightBrace,
            '[' => Token::LeftBracket,
            ']' => Token::RightBracket,
            ',' => Token::Comma,
            ':' | '=' => Token::Assign,
            '\n' => Token::Newline,
            '#' => return self.comment(),
            '/' if self.rest.starts_with("//") => return self.comment(),
            '+' if self.rest.starts_with("+=") => {
                self.skip("+=".len());
                return Ok(Token::Append);
            }
            '"' => return self.quoted(),
            '$' => return self.substitution(),
            _ => return self.unquoted(first),
        };
        self.skip(first.len_utf8());
        if simple == Token::Newline {
            self.line = self.line.saturating_add(1);
        }
        Ok(simple)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn comment(&mut self) -> Result<Token, HoconError> {
        self.take_while(|c| c != '\n');
        self.token_after_comment()
    }

    /// A comment ends at a newline or at the end, so this does not recurse further.
    fn token_after_comment(&mut self) -> Result<Token, HoconError> {
        if self.rest.is_empty() { Ok(Token::End) } else { self.token() }
    }

    fn unquoted(&mut self, first: char) -> Result<Token, HoconError> {
        let mut end = 0;
        for (at, c) in self.rest.char_indices() {
            let here = self.rest.get(at..).unwrap_or_default();
            if c == '\n'
                || is_space(c)
                || FORBIDDEN.contains(c)
                || here.starts_with("//")
                || here.starts_with("+=")
            {
                break;
            }
            end = at + c.len_utf8();
        }
        if end == 0 {
            return Err(self.place().syntax(format!(
                "'{}' cannot stand here: put the text in double quotes",
                first.escape_default()
            )));
        }
        let text = self.rest.get(..end).unwrap_or_default().to_owned();
        self.skip(end);
        Ok(Token::Unquoted(text))
    }

    fn substitution(&mut self) -> Result<Token, HoconError> {
        let place = self.place();
        let Some(inner) = self.rest.strip_prefix("${") else {
            return Err(place.syntax("'$' cannot stand here: put the text in double quotes"));
        };
        let end = inner.find(['}', '\n']).filter(|&end| inner.as_bytes().get(end) == Some(&b'}'));
        let Some(end) = end else {
            return Err(place.syntax("'${' has no '}' on its line"));
        };
        let text = inner.get(..end).unwrap_or_default();
        let (text, optional) = text.strip_prefix('?').map_or((text, false), |text| (text, true));
        let path = split_path(text).ok_or_else(|| {
            place.syntax(format!("'${{{}}}' does not name a key", text.escape_debug()))
        })?;
        self.skip("${".len() + end + 1);
        Ok(Token::Substitution { path, optional })
    }

    fn quoted(&mut self) -> Result<Token, HoconError> {
        if let Some(raw) = self.rest.strip_prefix("\"\"\"") {
            return self.triple_quoted(raw);
        }
        let place = self.place();
        let mut text = String::new();
        let mut chars = self.rest.chars();
        chars.next();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => text.push(escape(&mut chars).ok_or_else(|| {
                    place.syntax("unknown escape in a quoted text: write '\\\\' for a backslash")
                })?),
                Some('\n') | None => {
                    return Err(place.syntax("a quoted text has no closing '\"' on its line"));
                }
                Some(c) => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(Token::Quoted(text))
    }

    /// Everything up to `"""`; quotes before the last three belong to the text.
    fn triple_quoted(&mut self, raw: &'a str) -> Result<Token, HoconError> {
        let Some(mut end) = raw.find("\"\"\"") else {
            return Err(self.place().syntax("a '\"\"\"' text is not closed"));
        };
        while raw.get(end + 3..).is_some_and(|rest| rest.starts_with('"')) {
            end += 1;
        }
        let text = raw.get(..end).unwrap_or_default();
        let lines = text.matches('\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.rest = raw.get(end + 3..).unwrap_or_default();
        Ok(Token::Quoted(text.to_owned()))
    }
}

/// Characters that an unquoted text may not contain, besides white space, `//` and `+=`.
const FORBIDDEN: &str = "$\"{}[]:=,#`^?!@*&\\";

fn is_space(c: char) -> bool {
    c != '\n' && (c.is_whitespace() || c == '\u{feff}')
}

/// The character after a backslash (RFC 8259 section 7).
fn escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        c @ ('"' | '\\' | '/') => c,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let high = hex4(chars)?;
            if !(0xd800..0xdc00).contains(&high) {
                return char::from_u32(high);
            }
            if chars.next()? != '\\' || chars.next()? != 'u' {
                return None;
            }
            let low = hex4(chars)?.checked_sub(0xdc00).filter(|&low| low < 0x400)?;
            return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
        }
        _ => return None,
    })
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut value = 0;
    for _ in 0..4 {
        value = value << 4 | chars.next()?.to_digit(16)?;
    }
    Some(value)
}

/// Splits `a.b."c.d"` into its parts; `None` if a part is empty or a quote is not closed.
fn split_path(text: &str) -> Option<Vec<String>> {
    let mut path = Vec::new();
    let mut part = String::new();
    let (mut quoted, mut was_quoted) = (false, false);
    for c in text.trim().chars() {
        match c {
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            '.' if !quoted => {
                if part.is_empty() && !was_quoted {
                    return None;
                }
                path.push(std::mem::take(&mut part));
                was_quoted = false;
            }
            c if !quoted && FORBIDDEN.contains(c) => return None,
            c => part.push(c),
        }
    }
    if quoted || (part.is_empty() && !was_quoted) {
        return None;
    }
    path.push(part);
    (path.len() <= super::limits::DEPTH).then_some(path)
}
