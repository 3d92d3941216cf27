//! The tokens that a template puts around a text.
//!
//! Must not know: how a text becomes tokens.

/// The special tokens that a tokenizer puts around one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Ids before the text.
    pub before: Vec<u32>,
    /// Ids after the text.
    pub after: Vec<u32>,
}

impl SpecialTokens {
    /// Whether `ids` carry these tokens exactly as the tokenizer adds them: all of them at the
    /// beginning and at the end, none in between. Ids of another tokenizer do not. Always false
    /// for a tokenizer that adds none, since nothing then tells whose ids they are.
    pub fn are_around(&self, ids: &[u32]) -> bool {
        let Self { before, after } = self;
        if before.is_empty() && after.is_empty() {
            return false;
        }
        let text = ids.strip_prefix(&before[..]).and_then(|rest| rest.strip_suffix(&after[..]));
        text.is_some_and(|text| !text.iter().any(|id| before.contains(id) || after.contains(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_this_tokenizer_if_its_special_tokens_are_exactly_where_it_puts_them() {
        let bert = SpecialTokens { before: vec![101], after: vec![102] };
        for ids in [&[101, 7592, 2088, 102][..], &[101, 102]] {
            assert!(bert.are_around(ids), "{ids:?}");
        }
        // No special tokens, one side alone, one twice, two texts, and too few for both sides.
        let foreign = [
            &[7592][..],
            &[101, 7592],
            &[7592, 102],
            &[101, 101, 102],
            &[101, 5, 102, 6, 102],
            &[101],
            &[],
        ];
        for ids in foreign {
            assert!(!bert.are_around(ids), "{ids:?}");
        }
        // "hello world" in cl100k_base.
        assert!(!bert.are_around(&[15339, 1917]));
        let qwen = SpecialTokens { before: Vec::new(), after: vec![151_643] };
        assert!(qwen.are_around(&[14990, 1879, 151_643]) && qwen.are_around(&[151_643]));
        assert!(!qwen.are_around(&[14990, 1879]) && !qwen.are_around(&[151_643, 14990, 151_643]));
        // If both sides are the same token, a single one does not count as both.
        let same = SpecialTokens { before: vec![0], after: vec![0] };
        assert!(!same.are_around(&[0]) && same.are_around(&[0, 0]));
    }

    #[test]
    fn without_special_tokens_nothing_tells_whose_ids_they_are() {
        assert!(!SpecialTokens::default().are_around(&[1, 2, 3]));
        assert!(!SpecialTokens::default().are_around(&[]));
    }
}
