//! Queue names as label values: any bytes become valid UTF-8, and no two names become one.

/// The text of a name: itself where it is UTF-8, with each other byte as `\xHH`. A backslash that already stands before
/// `xHH` is written as `\x5c`, so that what stands for a byte can't be mistaken for a name that holds those characters.
#[must_use]
pub fn text(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    for chunk in name.utf8_chunks() {
        for (index, character) in chunk.valid().char_indices() {
            if character == '\\' && is_byte(rest.get(index..).unwrap_or_default()) {
                text.push_str("\\x5c");
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
        rest = rest.get(chunk.valid().len() + chunk.invalid().len()..).unwrap_or_default();
    }
    text
}

/// Whether the bytes start with `\xHH`.
fn is_byte(bytes: &[u8]) -> bool {
    matches!(bytes, [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// Writes a label value as the text format wants it: backslash, quote and newline escaped.
pub fn escape(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The name that a text stands for.
    fn name(text: &str) -> Vec<u8> {
        let mut name = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            if is_byte(rest) {
                name.push(u8::from_str_radix(&text[text.len() - rest.len() + 2..][..2], 16).unwrap());
                rest = &rest[4..];
            } else {
                name.push(*first);
                rest = tail;
            }
        }
        name
    }

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["ocr", "a:b{c}", "with \"quotes\"\n", "naïve 🦀", "back\\slash", "\\x"] {
            assert_eq!(text(name.as_bytes()), name);
        }
        assert_eq!(text(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(text(b"a\\xff"), "a\\x5cxff");
    }

    proptest! {
        #[test]
        fn every_name_can_be_told_from_its_text(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\\'), Just(b'x'), Just(b'f')], 0..24)) {
            prop_assert_eq!(name(&text(&bytes)), bytes);
        }

        #[test]
        fn escaped_values_hold_no_raw_quote_or_newline(value: String) {
            let mut out = String::new();
            escape(&value, &mut out);
            prop_assert!(!out.contains('\n'));
            prop_assert!(!out.replace("\\\\", "").replace("\\\"", "").contains('"'));
        }
    }
}
