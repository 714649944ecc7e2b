//! Patterns of names in which `*` stands for any bytes, none among them.

/// Whether `name` is of this pattern.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // Each part at the first place where it fits leaves the most for those after it.
    for part in parts {
        let fits = (0..=rest.len()).find_map(|start| rest.get(start..)?.strip_prefix(part));
        let Some(after) = fits else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// A prefix as it must stand in a pattern of Redis, so that it means only itself.
#[must_use]
pub fn escape(prefix: &[u8]) -> Vec<u8> {
    let escaped = prefix.iter().flat_map(|byte| match byte {
        b'*' | b'?' | b'[' | b']' | b'\\' => vec![b'\\', *byte],
        byte => vec![*byte],
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_bytes() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("mail", "mail", true),
            ("mail", "mails", false),
            ("mail*", "mail", true),
            ("*mail", "hotmail", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    /// The plain definition.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], name) => (0..=name.len()).any(|start| model(rest, &name[start..])),
            ([one, rest @ ..], [first, after @ ..]) => one == first && model(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_as_the_plain_definition_says(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
