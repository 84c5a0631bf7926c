//! Patterns of keys: `*` matches any bytes, `?` one byte, `[abc]` and `[a-z]` one of a set, `[^a-z]` one
//! that is not in the set; a backslash escapes the next byte.
//!
//! Every part except `*` matches exactly one byte. So after a failure the matcher only has to extend the
//! match of the last star by one byte: changing earlier stars would not help. Trying all stars would
//! take a time that is exponential in their number.

/// Redis recurses for each star, and matches nothing beyond this depth.
const MAX_STARS: usize = 1000;

/// Whether the whole text matches. As in Redis, an empty text does not match a star.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    // The pattern after the last star, and the text that it was last tried on.
    let mut again: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    loop {
        if let [b'*', ..] = pattern {
            while let [b'*', rest @ ..] = pattern {
                pattern = rest;
            }
            if pattern.is_empty() {
                return true;
            }
            stars += 1;
            if stars > MAX_STARS {
                return false;
            }
            again = Some((pattern, text));
        }
        match (pattern, text) {
            ([], []) => return true,
            ([_, ..], [byte, rest @ ..]) => {
                let (is_one, next) = one(pattern, *byte);
                if is_one {
                    (pattern, text) = (next, rest);
                    continue;
                }
            }
            _ => {}
        }
        let Some((behind_star, [_, rest @ ..])) = again else { return false };
        (pattern, text) = (behind_star, rest);
        again = Some((behind_star, rest));
    }
}

/// Matches the pattern's first part, which is not a star. Returns the result and the rest of the pattern.
fn one(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    match pattern {
        [b'?', rest @ ..] => (true, rest),
        [b'[', b'^', rest @ ..] => {
            let (found, rest) = set(rest, byte);
            (!found, rest)
        }
        [b'[', rest @ ..] => set(rest, byte),
        [b'\\', plain, rest @ ..] | [plain, rest @ ..] => (*plain == byte, rest),
        [] => (false, pattern),
    }
}

/// Whether a byte is in a set, and the pattern after the set. An unclosed set ends with the
/// pattern. The bounds of a range are signed, as C's `char` on x86, and in either order.
fn set(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut found = false;
    loop {
        (found, pattern) = match pattern {
            [] => return (found, pattern),
            [b'\\', plain, rest @ ..] => (found | (*plain == byte), rest),
            [b']', rest @ ..] => return (found, rest),
            [one, b'-', other, rest @ ..] => {
                let (one, other) = (*one as i8, *other as i8);
                let range = one.min(other)..=one.max(other);
                (found | range.contains(&(byte as i8)), rest)
            }
            [plain, rest @ ..] => (found | (*plain == byte), rest),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tries every match of each star.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            (_, []) => false,
            (_, [byte, rest @ ..]) => {
                let (is_one, next) = one(pattern, *byte);
                is_one && slow(next, rest)
            }
        }
    }

    proptest! {
        #[test]
        fn stars_match_as_an_exhaustive_search_does(
            pattern in proptest::collection::vec(proptest::sample::select(&b"**?[]^-\\aab"[..]), 0..10),
            text in proptest::collection::vec(proptest::sample::select(&b"aab-]"[..]), 1..10),
        ) {
            prop_assert_eq!(matches(&pattern, &text), slow(&pattern, &text));
        }

        #[test]
        fn a_pattern_made_from_a_text_matches_it(
            text in proptest::collection::vec(any::<u8>(), 1..20),
            stars in proptest::collection::vec(any::<bool>(), 20),
        ) {
            let part = |(byte, star): (&u8, &bool)| if *star { vec![b'*'] } else { vec![b'\\', *byte] };
            let pattern: Vec<u8> = text.iter().zip(&stars).flat_map(part).collect();
            prop_assert!(matches(&pattern, &text));
        }
    }

    #[test]
    fn parts_match_one_byte() {
        let cases: [(&[u8], &[u8]); 18] = [
            (b"?", b"ab[\\\xff"),
            (b"a", b"a"),
            (b"\\*", b"*"),
            (b"\\", b"\\"),
            (b"[ab]", b"ab"),
            (b"[^ab]", b"cd[]^"),
            (b"[a-c]", b"abc"),
            (b"[c-a]", b"abc"),
            (b"[^a-c]", b"d-"),
            (b"[\\a-c]", b"a-c"),
            (b"[\\]]", b"]"),
            (b"[a-]", b"]^_`a"),
            (b"[ab", b"ab"),
            (b"[^", b"a^"),
            (b"[\\", b"\\"),
            (b"[a^]", b"a^"),
            (b"[^]", b"]^a"),
            (b"[\xfe-\x01]", b"\xfe\xff\x00\x01"),
        ];
        for (pattern, bytes) in cases {
            for byte in bytes {
                assert!(matches(pattern, &[*byte]), "{} {byte}", pattern.escape_ascii());
            }
        }
        let not: [(&[u8], &[u8]); 9] = [
            (b"a", b"b"),
            (b"\\?", b"a\\"),
            (b"[]", b"a]["),
            (b"[", b"["),
            (b"[^ab]", b"ab"),
            (b"[^a-c]", b"abc"),
            (b"[\\a-c]", b"b"),
            (b"[a-]", b"b-"),
            (b"[\xfe-\x01]", b"\x02\xfd\x7f\x80"),
        ];
        for (pattern, bytes) in not {
            for byte in bytes {
                assert!(!matches(pattern, &[*byte]), "{} {byte}", pattern.escape_ascii());
            }
        }
    }

    #[test]
    fn stars_and_empty_texts_match_as_in_redis() {
        assert!(matches(b"", b"") && !matches(b"*", b"") && !matches(b"", b"a"));
        assert!(matches(b"a*", b"a") && matches(b"*a", b"a") && matches(b"***", b"a"));
        let stars = |number: usize| [&b"*a".repeat(number)[..], b"*"].concat();
        let text = b"a".repeat(2000);
        assert!(matches(&stars(1000), &text) && !matches(&stars(1001), &text));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = [&b"*a".repeat(100)[..], b"b"].concat();
        assert!(!matches(&pattern, &b"a".repeat(10_000)));
    }
}
