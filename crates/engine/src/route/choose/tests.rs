use model::alias::Carried;
use proptest::prelude::*;

use super::*;

fn target(number: u64, weight: u32) -> Target {
    let version = if number == 0 { VersionRef::Latest } else { VersionRef::Number(number) };
    Target { version, weight }
}

fn targets(list: &[(u64, u32)]) -> Vec<Target> {
    list.iter().map(|&(number, weight)| target(number, weight)).collect()
}

/// Shares of the versions 0 to 9 among `calls` calls.
fn shares(calls: u32, of: impl Fn(u32) -> Option<VersionRef>) -> [f64; 10] {
    let mut counts = [0_u32; 10];
    for n in 0..calls {
        counts[usize::try_from(of(n).unwrap().number().unwrap_or(0)).unwrap()] += 1;
    }
    counts.map(|count| f64::from(count) / f64::from(calls))
}

/// Holds each target's share to within so much of it, where it has a thousand of the calls, and else to within 0.01.
fn close(found: [f64; 10], targets: &[Target], relative: f64) {
    let sum: u32 = targets.iter().map(|t| t.weight).sum();
    for t in targets {
        let wanted = f64::from(t.weight) / f64::from(sum);
        let share = found[usize::try_from(t.version.number().unwrap_or(0)).unwrap()];
        let off = if wanted > 0.01 { wanted * relative } else { 0.01 };
        assert!((share - wanted).abs() <= off, "{}: {share} for {wanted}", t.version);
    }
}

#[test]
fn weights_over_100_000_calls_are_what_was_set() {
    for list in [&[(1, 95), (2, 5)][..], &[(0, 1), (1, 1), (2, 1)], &[(7, 1), (8, 0), (9, 999_999)]]
    {
        let targets = targets(list);
        for seed in [1, 0x5eed, u64::MAX] {
            // As ids are: a time, and something random.
            let id = |n: u32| {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&((1_700_000_000_000 + u64::from(n)) << 16).to_be_bytes());
                id[8..].copy_from_slice(&split_mix(seed ^ u64::from(n)).to_be_bytes());
                RequestId::from_bytes(id)
            };
            close(shares(100_000, |n| chance(&targets, &id(n))), &targets, 0.05);
            close(shares(100_000, |n| sticky(&targets, &format!("{seed}-{n}"))), &targets, 0.05);
        }
        // Real ids, made one after the other: others in every run, so there has to be room for chance.
        let found = shares(100_000, |_| chance(&targets, &RequestId::generate()));
        close(found, &targets, 0.1);
    }
    assert_eq!(chance(&targets(&[(1, 0), (2, 0)]), &RequestId::generate()), None);
}

#[test]
fn copies_are_the_share_that_was_set_and_independent_of_the_version() {
    let both = targets(&[(1, 1), (2, 1)]);
    let share: Percent = "10%".parse().unwrap();
    let ids: Vec<_> = (0..100_000).map(|_| RequestId::generate()).collect();
    let copies: Vec<_> = ids.iter().filter(|id| copied(share, id)).collect();
    let first = copies.iter().filter(|id| chance(&both, id) == Some(VersionRef::Number(1))).count();
    assert!((9_000..11_000).contains(&copies.len()), "{}", copies.len());
    assert!((4_500..5_500).contains(&first), "{first}");
    assert!(ids.iter().all(|id| copied(Percent::ALL, id) && !copied(Percent::NONE, id)));
}

#[test]
fn choices_are_the_same_in_every_release() {
    assert_eq!(split_mix(0), 0xe220_a839_7b1d_cdaf, "the published first output of seed 0");
    let four = targets(&[(0, 10), (1, 20), (2, 30), (3, 40)]);
    let ids = [[0; 16], [0xff; 16], *b"0123456789abcdef", *b"hanshu-request-1"];
    let by_id = ids.map(|id| chance(&four, &RequestId::from_bytes(id)).unwrap().to_string());
    let keys = ["", "alice", "bob", "user-42", "ä"];
    let by_key = keys.map(|key| sticky(&four, key).unwrap().to_string());
    let half = "50%".parse().unwrap();
    let by_share = ids.map(|id| copied(half, &RequestId::from_bytes(id)));
    assert_eq!(mix(1, 2), 13_608_149_317_741_381_227);
    assert_eq!(minus_ln(1 << 63).to_bits(), 4_604_418_534_313_441_773);
    assert_eq!(by_id, ["3", "2", "3", "3"]);
    assert_eq!(by_key, ["2", "2", "1", "1", "3"]);
    assert_eq!(by_share, [false, true, true, true]);
}

#[test]
fn the_logarithm_is_one() {
    for drawn in [0, 1, 1 << 12, 1 << 40, 1 << 63, u64::MAX / 3, u64::MAX - (1 << 13), u64::MAX] {
        #[expect(clippy::cast_precision_loss, reason = "a comparison with a tolerance")]
        let u = ((drawn >> 12) as f64 + 0.5) / 2_f64.powi(52);
        let (ours, theirs) = (minus_ln(drawn), -u.ln());
        assert!((ours - theirs).abs() <= 1e-14 * theirs.max(1.0), "{drawn}: {ours} for {theirs}");
        assert!(ours > 0.0);
    }
}

/// Up to ten targets, of which at least one has weight.
fn any_targets() -> impl Strategy<Value = Vec<Target>> {
    let list = proptest::collection::vec(0_u32..1_000, 1..10);
    list.prop_map(|weights| {
        let mut targets: Vec<_> = (0..).zip(weights).map(|(n, weight)| target(n, weight)).collect();
        targets[0].weight += 1;
        targets
    })
}

proptest! {
    #[test]
    fn keys_move_only_to_a_target_that_gains_and_from_one_that_loses(
        before in any_targets(), which in 0_usize..10, weight in 0_u32..2_000,
    ) {
        let which = which % before.len();
        let mut after = before.clone();
        after[which].weight = if which == 0 { weight + 1 } else { weight };
        let gains = after[which].weight > before[which].weight;
        let changed = before[which].version;
        for n in 0..200 {
            let key = format!("key-{n}");
            let (was, is) = (sticky(&before, &key).unwrap(), sticky(&after, &key).unwrap());
            let other_end = if gains { is } else { was };
            prop_assert!(was == is || other_end == changed, "{key}: {was} to {is}");
        }
    }

    #[test]
    fn a_target_that_comes_takes_keys_and_gives_them_back_when_it_goes(
        without in any_targets(), weight in 1_u32..2_000, at in 0_usize..10,
    ) {
        let mut with = without.clone();
        with.insert(at.min(without.len()), target(77, weight));
        for n in 0..200 {
            let key = format!("key-{n}");
            let (was, is) = (sticky(&without, &key).unwrap(), sticky(&with, &key).unwrap());
            prop_assert!(was == is || is == VersionRef::Number(77), "{key}: {was} to {is}");
        }
    }
}

fn alias(json: &str) -> Alias {
    serde_json::from_str(json).unwrap()
}

/// The version, by rule or key, that a call with these parameters reaches.
fn reached(alias: &Alias, parameters: &[(&str, &str)], event: &str) -> String {
    let mut carried = Carried::default();
    for (name, value) in parameters {
        carried.insert(name.parse().unwrap(), (*value).to_owned());
    }
    let mut fields = Fields::default();
    for rule in &alias.rules {
        for condition in &rule.when {
            if let Parameter::Event(steps) = &condition.on {
                fields.add(steps);
            }
        }
    }
    let facts = Facts::new(&carried, event.as_bytes(), &fields);
    match decide(alias, &facts) {
        Decision::Rule(version) => version.to_string(),
        Decision::Sticky(key) => format!("sticky {key}"),
        Decision::Chance => "chance".into(),
    }
}

#[test]
fn rules_of_every_kind_match_or_do_not() {
    for (condition, parameters, event, matches) in [
        (r#"{"on":"header.x-a","exact":"1"}"#, &[("header.x-a", "1")][..], "", true),
        (r#"{"on":"header.x-a","exact":"1"}"#, &[("header.x-b", "1")], "", false),
        (r#"{"on":"query.q","prefix":"ab"}"#, &[("query.q", "abc")], "", true),
        (r#"{"on":"cookie.c","present":true}"#, &[("cookie.c", "")], "", true),
        (r#"{"on":"cookie.c","present":false}"#, &[], "", true),
        (r#"{"on":"path","prefix":"/v2/"}"#, &[("path", "/v2/x")], "", true),
        (r#"{"on":"path","prefix":"/"}"#, &[], "", false),
        (r#"{"on":"method","one_of":["PUT","POST"]}"#, &[("method", "POST")], "", true),
        (r#"{"on":"source","exact":"10.0.0.0/8"}"#, &[("source", "10.1.2.3")], "", true),
        (r#"{"on":"source","exact":"10.0.0.0/8"}"#, &[("source", "not one")], "", false),
        (r#"{"on":"event.n","range":"[1,10)"}"#, &[], r#"{"n":9.5}"#, true),
        (r#"{"on":"event.n","range":"[1,10)"}"#, &[], r#"{"n":"9.5"}"#, true),
        (r#"{"on":"event.n","range":"[1,10)"}"#, &[], r#"{"n":[9]}"#, false),
        (r#"{"on":"event.n","exact":"null"}"#, &[], r#"{"n":null}"#, true),
        (r#"{"on":"event.n","present":false}"#, &[], "no json", true),
        (r#"{"on":"event.n","exact":"1"}"#, &[], "no json", false),
    ] {
        let alias = alias(&format!(
            r#"{{"targets":[{{"version":1,"weight":1}}],"rules":[{{"when":[{condition}],"to":8}}]}}"#
        ));
        let expected = if matches { "8" } else { "chance" };
        assert_eq!(reached(&alias, parameters, event), expected, "{condition}");
    }
}

#[test]
fn the_first_rule_counts_then_the_key_then_chance() {
    let alias = alias(
        r#"{"targets":[{"version":1,"weight":1},{"version":2,"weight":1}],"sticky":"header.user","rules":[
            {"when":[{"on":"header.a","present":true},{"on":"header.b","present":true}],"to":7},
            {"when":[{"on":"header.a","present":true}],"to":8}]}"#,
    );
    let (a, b, user) = (("header.a", ""), ("header.b", ""), ("header.user", "u"));
    assert_eq!(reached(&alias, &[a, b, user], ""), "7");
    assert_eq!(reached(&alias, &[a, user], ""), "8");
    assert_eq!(reached(&alias, &[b, user], ""), "sticky u");
    assert_eq!(reached(&alias, &[b], ""), "chance");
}
