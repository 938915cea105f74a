//! SPDX licence expressions, as far as packages use them: `OR`, `AND`, `WITH`, parentheses, and the old `/` for `OR`.

/// Why a text is no licence expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Whether somebody who accepts the licences of `allowed` can accept `expression`. A licence with an exception is allowed
/// where the list has the licence alone (an exception only permits more) or both together.
///
/// # Errors
/// [`Unreadable`], where the text is no expression.
pub(crate) fn satisfiable(expression: &str, allowed: &[&str]) -> Result<bool, Unreadable> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = Words { words: spaced.split_whitespace().collect(), next: 0, allowed };
    let answer = words.any()?;
    if words.peek().is_some() { Err(Unreadable) } else { Ok(answer) }
}

struct Words<'t> {
    words: Vec<&'t str>,
    next: usize,
    allowed: &'t [&'t str],
}

impl<'t> Words<'t> {
    /// `AND` binds closer than `OR`.
    fn any(&mut self) -> Result<bool, Unreadable> {
        let mut answer = self.all()?;
        while self.take("OR") {
            answer |= self.all()?;
        }
        Ok(answer)
    }

    fn all(&mut self) -> Result<bool, Unreadable> {
        let mut answer = self.one()?;
        while self.take("AND") {
            answer &= self.one()?;
        }
        Ok(answer)
    }

    fn one(&mut self) -> Result<bool, Unreadable> {
        if self.take("(") {
            let answer = self.any()?;
            return if self.take(")") { Ok(answer) } else { Err(Unreadable) };
        }
        let licence = self.name()?;
        let alone = self.allowed.contains(&licence);
        if self.take("WITH") {
            let together = format!("{licence} WITH {}", self.name()?);
            return Ok(alone || self.allowed.contains(&together.as_str()));
        }
        Ok(alone)
    }

    fn name(&mut self) -> Result<&'t str, Unreadable> {
        let word = self.peek().ok_or(Unreadable)?;
        if ["OR", "AND", "WITH", "(", ")"].contains(&word) {
            return Err(Unreadable);
        }
        self.next += 1;
        Ok(word)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }

    fn peek(&self) -> Option<&'t str> {
        self.words.get(self.next).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: Result<bool, Unreadable>) {
        let allowed = ["MIT", "ISC", "Apache-2.0", "GPL-2.0 WITH Classpath-exception-2.0"];
        assert_eq!(satisfiable(expression, &allowed), expected, "{expression}");
    }

    #[test]
    fn one_allowed_side_of_or_is_enough_and_and_wants_both() {
        check("MIT", Ok(true));
        check("GPL-3.0", Ok(false));
        check("GPL-3.0 OR MIT", Ok(true));
        check("GPL-3.0 OR LGPL-3.0", Ok(false));
        check("MIT AND ISC", Ok(true));
        check("MIT AND GPL-3.0", Ok(false));
    }

    #[test]
    fn and_binds_closer_than_or_and_parentheses_closer_than_both() {
        check("MIT OR ISC AND GPL-3.0", Ok(true));
        check("(MIT OR ISC) AND GPL-3.0", Ok(false));
        check("ISC AND (Apache-2.0 OR OpenSSL) AND (MIT OR GPL-3.0)", Ok(true));
        check("((MIT))", Ok(true));
    }

    #[test]
    fn the_old_slash_means_or() {
        check("GPL-3.0/MIT", Ok(true));
        check("MIT / Apache-2.0", Ok(true));
        check("GPL-2.0/GPL-3.0", Ok(false));
    }

    #[test]
    fn an_exception_permits_more_and_may_be_what_makes_a_licence_acceptable() {
        check("Apache-2.0 WITH LLVM-exception", Ok(true));
        check("GPL-2.0 WITH Classpath-exception-2.0", Ok(true));
        check("GPL-2.0", Ok(false));
        check("GPL-2.0 WITH GCC-exception-2.0", Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_not_accepted() {
        for text in ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "()"] {
            check(text, Err(Unreadable));
        }
    }
}
