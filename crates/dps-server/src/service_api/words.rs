//! The words of a query's text, one after the other; each that is not what stands there is a refusal that names it.
//! Spec: DPS-SERVICE-25.

use super::BadQuery;

/// Most characters of a word that a refusal repeats.
const WORD_SHOWN_MAX: usize = 64;

/// What is left of a text.
pub(super) struct Words {
    tokens: Vec<Token>,
    next: usize,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        Self { tokens: tokens(text), next: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.next == self.tokens.len()
    }

    pub(super) fn take(&mut self, expected: &'static str) -> Result<Token, BadQuery> {
        let token = self.tokens.get(self.next).cloned().ok_or(BadQuery::Ends(expected))?;
        self.next += 1;
        Ok(token)
    }

    pub(super) fn keyword(&mut self, keyword: &'static str) -> Result<(), BadQuery> {
        match self.take(keyword)? {
            Token::Name(name) if name.eq_ignore_ascii_case(keyword) => Ok(()),
            other => Err(word(&other, keyword)),
        }
    }

    pub(super) fn symbol(&mut self, symbol: &'static str) -> Result<(), BadQuery> {
        match self.take(symbol)? {
            Token::Symbol(found) if found == symbol => Ok(()),
            other => Err(word(&other, symbol)),
        }
    }

    pub(super) fn name(&mut self, expected: &'static str) -> Result<String, BadQuery> {
        match self.take(expected)? {
            Token::Name(name) => Ok(name),
            other => Err(word(&other, expected)),
        }
    }

    pub(super) fn text(&mut self, expected: &'static str) -> Result<String, BadQuery> {
        match self.take(expected)? {
            Token::Text(text) => Ok(text),
            other => Err(word(&other, expected)),
        }
    }

    pub(super) fn next_is(&self, is: impl Fn(&str) -> bool) -> bool {
        matches!(self.tokens.get(self.next), Some(Token::Name(name)) if is(name))
    }
}

pub(super) fn word(token: &Token, expected: &'static str) -> BadQuery {
    BadQuery::Word { word: token.shown(), expected }
}

pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_alphanumeric() || character == '_'))
}

pub(super) fn is_where(word: &str) -> bool {
    word.eq_ignore_ascii_case("WHERE")
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Keywords and names, with their dots.
    Name(String),
    /// What stands in quotes, without them.
    Text(String),
    /// Operators, brackets, and whatever is nothing else.
    Symbol(String),
}

impl Token {
    fn shown(&self) -> String {
        let (Self::Name(text) | Self::Text(text) | Self::Symbol(text)) = self;
        text.chars().take(WORD_SHOWN_MAX).collect()
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\'' | '"' => quoted(rest, first),
            '<' | '>' | '!' | '=' => {
                let symbol = ["<=", ">=", "<>", "!="].into_iter().find(|symbol| rest.starts_with(symbol));
                let symbol = symbol.unwrap_or(&rest[..1]);
                (Token::Symbol(symbol.to_owned()), symbol.len())
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let is_part = |character: char| character.is_alphanumeric() || "_.-:".contains(character);
                let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
                (Token::Name(rest[..length].to_owned()), length)
            }
            _ => (Token::Symbol(first.to_string()), first.len_utf8()),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// A text up to its closing quote, which stands in it twice for one. One that is not closed is no text.
fn quoted(rest: &str, quote: char) -> (Token, usize) {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            text.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return (Token::Text(text), at + 1);
        }
    }
    (Token::Symbol(rest.to_owned()), rest.len())
}
