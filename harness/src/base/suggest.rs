//! "Did you mean": the closest of a list of names.

/// The candidate that `word` was most likely meant to be, if one is close enough to be worth naming.
#[must_use]
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let likeness = strsim::jaro_winkler(&wanted, &candidate.to_lowercase().replace('-', "_"));
            (likeness, candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// [`closest`] as the tail of a message: `did you mean ...?`, or the whole list when nothing is close.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(meant) = closest(word, candidates.clone()) {
        return format!("did you mean `{meant}`?");
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    format!("it is one of: {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        let keys = ["at", "when", "heal_after", "kill"];
        assert_eq!(closest("heal-after", keys), Some("heal_after"));
        assert_eq!(closest("heel_after", keys), Some("heal_after"));
        assert_eq!(closest("kil", keys), Some("kill"));
        assert_eq!(closest("zebra", keys), None);
        assert_eq!(did_you_mean("zebra", ["a", "b"]), "it is one of: a, b");
    }
}
