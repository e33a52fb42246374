//! Parses tokens into a tree.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    HoconError,
    files::{Files, Include},
    lexer::{Lexer, Token},
    limits,
    tree::{Fields, Node, Piece, Place},
};

/// Parses the fields of one file, whose keys begin under `base`.
pub(crate) fn parse(
    files: &mut Files<'_>,
    path: &Path,
    text: &str,
    base: &[String],
    start: Place,
) -> Result<Fields, HoconError> {
    let mut parser = Parser {
        lexer: Lexer::new(text, start.file.clone()),
        at: start,
        next: Token::Newline,
        base: base.into(),
        path: base.to_vec(),
        depth: base.len(),
        lists: 0,
        directory: path.parent().unwrap_or(Path::new("")).to_owned(),
        files,
    };
    parser.root()
}

struct Parser<'a, 'f, 's> {
    lexer: Lexer<'a>,
    next: Token,
    /// Where `next` is.
    at: Place,
    base: Arc<[String]>,
    /// Path of the object being read.
    path: Vec<String>,
    depth: usize,
    /// Number of lists around it: inside a list, `path` means nothing.
    lists: usize,
    directory: PathBuf,
    files: &'f mut Files<'s>,
}

impl Parser<'_, '_, '_> {
    fn advance(&mut self) -> Result<Token, HoconError> {
        self.at = self.lexer.place();
        let next = self.lexer.token()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn skip_blank(&mut self) -> Result<(), HoconError> {
        while matches!(self.next, Token::Newline | Token::Space(_)) {
            self.advance()?;
        }
        Ok(())
    }

    fn skip_space(&mut self) -> Result<(), HoconError> {
        while matches!(self.next, Token::Space(_)) {
            self.advance()?;
        }
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), HoconError> {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err(self.at.limit("more than 64 objects and lists are nested here"));
        }
        Ok(())
    }

    fn root(&mut self) -> Result<Fields, HoconError> {
        self.advance()?;
        self.skip_blank()?;
        let mut fields = Fields::default();
        match self.next {
            Token::LeftBrace => {
                fields = self.object()?;
                self.skip_blank()?;
                if self.next != Token::End {
                    return Err(self.at.syntax("there is more after the closing '}' of the file"));
                }
            }
            Token::LeftBracket => return Err(self.at.syntax("a list cannot be a configuration")),
            _ => self.fields(None, &mut fields)?,
        }
        Ok(fields)
    }

    /// From `{` to `}`.
    fn object(&mut self) -> Result<Fields, HoconError> {
        let opened = self.at.clone();
        self.deeper()?;
        self.advance()?;
        let mut fields = Fields::default();
        self.fields(Some(&opened), &mut fields)?;
        self.depth -= 1;
        Ok(fields)
    }

    /// Reads fields up to `}` (if `opened` says where its `{` is) or the end of the file.
    fn fields(&mut self, opened: Option<&Place>, fields: &mut Fields) -> Result<(), HoconError> {
        loop {
            self.skip_blank()?;
            match (&self.next, opened) {
                (Token::End, None) => return Ok(()),
                (Token::End, Some(opened)) => {
                    return Err(opened.syntax("this '{' is never closed: add a '}'"));
                }
                (Token::RightBrace, Some(_)) => {
                    self.advance()?;
                    return Ok(());
                }
                (Token::RightBrace, None) => {
                    return Err(self.at.syntax("this '}' closes nothing: remove it"));
                }
                _ => self.field(fields)?,
            }
            self.separator("a field", &Token::RightBrace)?;
        }
    }

    /// After a field or an element: reads a comma, a newline, or the end of the enclosing object or
    /// list.
    fn separator(&mut self, after: &str, close: &Token) -> Result<(), HoconError> {
        self.skip_space()?;
        let newline = self.next == Token::Newline;
        self.skip_blank()?;
        if self.next == Token::Comma {
            self.advance()?;
        } else if !newline && self.next != Token::End && self.next != *close {
            return Err(self.unexpected(&format!("after {after}")));
        }
        Ok(())
    }

    fn unexpected(&self, place: &str) -> HoconError {
        let token = match &self.next {
            Token::LeftBrace => "'{'",
            Token::RightBrace => "'}'",
            Token::LeftBracket => "'['",
            Token::RightBracket => "']'",
            Token::Comma => "','",
            Token::Assign => "':' or '='",
            Token::Append => "'+='",
            Token::Newline => "the end of the line",
            Token::End => "the end of the file",
            Token::Substitution { .. } => "'${'",
            Token::Space(_) | Token::Quoted(_) | Token::Unquoted(_) => "more text",
        };
        self.at.syntax(format!("{token} is not expected {place}"))
    }

    fn field(&mut self, fields: &mut Fields) -> Result<(), HoconError> {
        let at = self.at.clone();
        let first = matches!(&self.next, Token::Unquoted(word) if word == "include");
        let key = self.key()?;
        if first && let Some(include) = self.include_at(&at)? {
            let base = if self.lists == 0 { self.path.clone() } else { Vec::new() };
            fields.merge(self.files.include(&include, &base)?);
            return Ok(());
        }
        let name = key.join(".");
        let added = key.len();
        for _ in 0..added {
            self.deeper()?;
        }
        self.path.extend(key.iter().cloned());
        let blank_before_brace = self.next == Token::Newline;
        if blank_before_brace {
            self.skip_blank()?;
        }
        let mut node = match self.next {
            Token::LeftBrace => self.value(&name)?,
            _ if blank_before_brace => {
                return Err(at.syntax(format!("'{name}' has no value: add '=' and one")));
            }
            Token::Assign => {
                self.advance()?;
                self.value(&name)?
            }
            Token::Append => {
                self.advance()?;
                let inner = self.value(&name)?;
                let at = inner.at.clone();
                Node { piece: Piece::Append(Box::new(inner)), at }
            }
            _ => return Err(self.unexpected(&format!("after the key '{name}'"))),
        };
        if !matches!(node.piece, Piece::Object(_)) {
            node.at = at;
        }
        self.depth -= added;
        self.path.truncate(self.path.len().saturating_sub(added));
        fields.insert(&key, node);
        Ok(())
    }

    /// Reads a dotted key, and the white space after it.
    fn key(&mut self) -> Result<Vec<String>, HoconError> {
        let at = self.at.clone();
        let mut key = Vec::new();
        // The part being read, and white space that belongs to it if more follows.
        let mut part: Option<String> = None;
        let mut space = String::new();
        loop {
            match &self.next {
                Token::Quoted(text) => {
                    let part = part.get_or_insert_default();
                    part.push_str(&std::mem::take(&mut space));
                    part.push_str(text);
                }
                Token::Unquoted(text) => {
                    for (i, piece) in text.split('.').enumerate() {
                        if i > 0 {
                            // White space belongs to the parts that it separates.
                            let space = std::mem::take(&mut space);
                            key.push(part.take().map(|part| part + &space));
                        }
                        if !piece.is_empty() {
                            let part = part.get_or_insert_default();
                            part.push_str(&std::mem::take(&mut space));
                            part.push_str(piece);
                        }
                    }
                }
                // `include "file"` is not a key with a space in it.
                Token::Space(_) if key.is_empty() && part.as_deref() == Some("include") => {
                    self.skip_space()?;
                    break;
                }
                Token::Space(text) => space.push_str(text),
                _ => break,
            }
            self.advance()?;
        }
        key.push(part);
        let key: Option<Vec<String>> = key.into_iter().collect();
        match key {
            Some(key) => Ok(key),
            None if matches!(self.next, Token::Assign | Token::Append) => {
                Err(at.syntax("a key has an empty part: check its dots"))
            }
            None => Err(self.unexpected("where a key should be")),
        }
    }

    /// Reads what follows the word `include`; `None` if it is an ordinary key after all.
    fn include_at(&mut self, at: &Place) -> Result<Option<Include>, HoconError> {
        let how = match &self.next {
            Token::Quoted(_) => String::new(),
            Token::Unquoted(how) => how.clone(),
            _ => return Ok(None),
        };
        // White space may stand after each parenthesis.
        let mut how = how;
        if !how.is_empty() {
            self.advance()?;
            self.skip_space()?;
            while let Token::Unquoted(more) = &self.next {
                how.push_str(more);
                self.advance()?;
                self.skip_space()?;
            }
        }
        let required = how.starts_with("required(");
        let class_path = match how.strip_prefix("required(").unwrap_or(&how) {
            "" | "file(" => false,
            "classpath(" => true,
            "url(" => {
                let what =
                    "nothing is fetched from the network: save the file here, and include that";
                return Err(at.syntax(what));
            }
            other => {
                let short: String = other.chars().take(60).collect();
                return Err(at.syntax(format!("cannot include by '{short}': use include \"file\"")));
            }
        };
        let Token::Quoted(name) = &self.next else {
            return Err(self.unexpected("where the name of an included file should be, in quotes"));
        };
        let path = self.directory.join(name);
        self.advance()?;
        let mut open = how.matches('(').count();
        while open > 0 {
            self.skip_space()?;
            match &self.next {
                Token::Unquoted(close)
                    if close.len() <= open && close.bytes().all(|c| c == b')') =>
                {
                    open -= close.len();
                    self.advance()?;
                }
                _ => return Err(self.unexpected("in an include: ')' is missing")),
            }
        }
        Ok(Some(Include { path, required, class_path, at: at.clone() }))
    }

    /// A value: one thing, or several side by side.
    fn value(&mut self, key: &str) -> Result<Node, HoconError> {
        self.skip_blank()?;
        let at = self.at.clone();
        let mut parts: Vec<Node> = Vec::new();
        loop {
            let at = self.at.clone();
            let piece = match &self.next {
                Token::LeftBrace => Piece::Object(self.object()?),
                Token::LeftBracket => Piece::Array(self.list()?),
                _ => match self.next.clone() {
                    Token::Space(text) => {
                        self.advance()?;
                        Piece::Space(text)
                    }
                    Token::Quoted(text) => {
                        self.advance()?;
                        Piece::Text(text)
                    }
                    Token::Unquoted(text) => {
                        self.advance()?;
                        if text == "null" { Piece::Null } else { Piece::Text(text) }
                    }
                    Token::Substitution { path, optional } => {
                        self.advance()?;
                        Piece::Substitution { path, optional, base: self.base.clone() }
                    }
                    Token::Assign | Token::Append => {
                        if let Some(word) = word_after_value(&parts) {
                            return Err(word.missing_comma(key));
                        }
                        let hint =
                            format!("in the value of '{key}': put the text in double quotes");
                        return Err(self.unexpected(&hint));
                    }
                    _ => break,
                },
            };
            parts.push(Node { piece, at });
        }
        while matches!(parts.last(), Some(Node { piece: Piece::Space(_), .. })) {
            parts.pop();
        }
        if let Some(word) = word_before_braces(&parts) {
            return Err(word.missing_comma(key));
        }
        match parts.len() {
            0 => Err(at.syntax(format!("'{key}' has no value"))),
            1 => parts.pop().ok_or_else(|| at.syntax("no value")),
            _ => Ok(Node { piece: Piece::Concat(parts), at }),
        }
    }

    /// From `[` to `]`.
    fn list(&mut self) -> Result<Vec<Node>, HoconError> {
        let opened = self.at.clone();
        self.deeper()?;
        self.lists += 1;
        self.advance()?;
        let mut elements = Vec::new();
        loop {
            self.skip_blank()?;
            match self.next {
                Token::RightBracket => break,
                Token::End => return Err(opened.syntax("this '[' is never closed: add a ']'")),
                Token::Comma => return Err(self.unexpected("where an element should be")),
                _ => elements.push(self.value(ELEMENT)?),
            }
            self.separator(ELEMENT, &Token::RightBracket)?;
        }
        self.advance()?;
        self.lists -= 1;
        self.depth -= 1;
        Ok(elements)
    }
}

/// The name of a list element in messages, since it has no key.
const ELEMENT: &str = "an element";

/// Text in a value that looks like the start of the next field.
struct Word<'a> {
    text: &'a str,
    at: &'a Place,
}

impl Word<'_> {
    fn missing_comma(&self, key: &str) -> HoconError {
        let short: String = self.text.chars().take(60).collect();
        let or =
            if key == ELEMENT { String::new() } else { format!(" after the value of '{key}'") };
        self.at.syntax(format!(
            "a ',' or a new line is missing before '{short}'{or} (a text with spaces, ':' or '=' in it \
             needs double quotes)"
        ))
    }
}

fn word(node: &Node) -> Option<Word<'_>> {
    match &node.piece {
        Piece::Text(text) if !text.is_empty() => Some(Word { text, at: &node.at }),
        _ => None,
    }
}

/// The last word before a `=`, where there is a value before it: `a = 1 b = 2`.
fn word_after_value(parts: &[Node]) -> Option<Word<'_>> {
    let mut solid = parts.iter().rev().filter(|part| !matches!(part.piece, Piece::Space(_)));
    let last = word(solid.next()?)?;
    solid.next().map(|_| last)
}

/// A word between a value and the braces or brackets of another, with which it cannot be one value:
/// `a { … } b { … }`, or `a = 1 b { … }`.
fn word_before_braces(parts: &[Node]) -> Option<Word<'_>> {
    let solid: Vec<&Node> =
        parts.iter().filter(|part| !matches!(part.piece, Piece::Space(_))).collect();
    let braces = |node: &Node| matches!(node.piece, Piece::Object(_) | Piece::Array(_));
    solid.windows(3).find_map(|three| match three {
        [_, between, after] if braces(after) => word(between),
        _ => None,
    })
}
