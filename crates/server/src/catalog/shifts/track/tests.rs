use model::alias::Target;
use model::ids::VersionRef;

use super::*;

fn rollout() -> Rollout {
    Rollout {
        to: VersionRef::Number(2),
        before: vec![Target { version: VersionRef::Number(1), weight: 1 }],
        steps: ["50%", "100%"].map(|s| s.parse().unwrap()).into(),
        step: 0,
        step_since: UnixMillis(0),
        every_ms: 10_000,
        stop_if: vec!["errors > 1%".parse().unwrap(), "p99 > 2x".parse().unwrap()],
        min_calls: 20,
        started_at: UnixMillis(0),
        baseline: None,
    }
}

fn sample(calls: u64, errors: u64, micros: u64) -> Sample {
    let mut sample = Sample { calls, errors, ..Sample::default() };
    (0..calls).for_each(|_| sample.durations.record(micros));
    sample
}

fn shifting(rollout: &Rollout, old: Sample, new: Sample) -> Shifting {
    Shifting {
        function: FunctionKey { namespace: "default".parse().unwrap(), name: "f".parse().unwrap() },
        alias: "live".parse().unwrap(),
        rollout: rollout.clone(),
        samples: vec![(VersionRef::Number(1), old), (VersionRef::Number(2), new)],
    }
}

#[test]
fn a_version_that_starts_failing_is_seen_within_a_window() {
    let (mut tracks, shift) = (Tracks::default(), rollout());
    let begin = Instant::now();
    let (mut calls, mut errors) = (0, 0);
    // Good for 50 s, then 5 % fail: the calls of all time would have under 1 % of errors for another 12 s.
    for tenth in 0..700 {
        let now = begin + Duration::from_millis(tenth * 100);
        calls += 20;
        errors += u64::from(tenth >= 500);
        let shifting = shifting(&shift, sample(calls, 0, 1_000), sample(calls, errors, 1_000));
        match tracks.look(&shifting, now) {
            Some(Verdict::Stop(why)) => {
                assert!((501..600).contains(&tenth), "{tenth}: {why}");
                assert!(why.starts_with("errors of the new version"), "{why}");
                return;
            }
            Some(Verdict::Next(_)) => assert!(tenth >= 100),
            other => assert_eq!(other, None),
        }
    }
    panic!("it was never stopped");
}

#[test]
fn few_calls_are_not_judged_and_time_goes_on() {
    let (shift, begin) = (rollout(), Instant::now());
    let after = |ms| begin + Duration::from_millis(ms);
    for (step, over) in [(0, Verdict::Next(Figures::default())), (1, Verdict::Done)] {
        let (mut tracks, shift) = (Tracks::default(), Rollout { step, ..shift.clone() });
        let few = shifting(&shift, Sample::default(), sample(19, 19, 1));
        assert_eq!(tracks.look(&few, begin), None);
        assert_eq!(tracks.look(&few, after(9_999)), None);
        assert_eq!(tracks.look(&few, after(10_000)), Some(over));
        let one = shifting(&shift, Sample::default(), sample(21, 1, 1));
        assert_ne!(tracks.look(&one, begin).map(|verdict| verdict.what()), Some(What::ShiftStop));
    }
    let mut tracks = Tracks::default();
    let enough = shifting(&shift, Sample::default(), sample(20, 3, 1));
    assert!(matches!(tracks.look(&enough, begin), Some(Verdict::Stop(_))));
}

#[test]
fn each_step_is_watched_for_its_whole_time_whatever_the_wall_says() {
    // A daemon that comes back long after the step began, or whose wall clock went back.
    for step_since in [UnixMillis(0), UnixMillis(u64::MAX)] {
        let (mut tracks, begin) = (Tracks::default(), Instant::now());
        let after = |ms| begin + Duration::from_millis(ms);
        let mut shift = Rollout { step_since, ..rollout() };
        let seen = |shift: &Rollout| shifting(shift, Sample::default(), Sample::default());
        assert_eq!(tracks.look(&seen(&shift), begin), None);
        assert_eq!(tracks.look(&seen(&shift), after(9_999)), None);
        let next = tracks.look(&seen(&shift), after(10_000)).unwrap();
        assert_eq!(next.what(), What::ShiftStep);
        shift.step = 1;
        assert_eq!(tracks.look(&seen(&shift), after(10_200)), None);
        assert_eq!(tracks.look(&seen(&shift), after(20_100)), None);
        assert_eq!(tracks.look(&seen(&shift), after(20_200)), Some(Verdict::Done));
    }
}

#[test]
fn the_last_step_is_compared_with_what_was_before() {
    let (mut tracks, shift) = (Tracks::default(), rollout());
    let begin = Instant::now();
    let both = shifting(&shift, sample(100, 0, 1_000), sample(100, 0, 1_000));
    assert_eq!(tracks.look(&both, begin), None);
    let last = Rollout { step: 1, step_since: UnixMillis(30_000), ..shift };
    let mut slow = sample(100, 0, 1_000);
    slow.add(&sample(100, 0, 5_000));
    // What the old version still answers now counts for nothing, be it as slow.
    let mut left = sample(100, 0, 1_000);
    left.add(&sample(50, 0, 5_000));
    let alone = shifting(&last, left, slow.clone());
    let later = begin + Duration::from_secs(30);
    let Some(Verdict::Stop(why)) = tracks.look(&alone, later) else {
        panic!("twice as slow as before");
    };
    assert!(why.starts_with("p99 of the new version"), "{why}");

    // Nor does a daemon that begins in the last step know less.
    let alone =
        |baseline| shifting(&Rollout { baseline, ..last.clone() }, Sample::default(), slow.clone());
    assert_eq!(Tracks::default().look(&alone(None), later), None);
    let known = alone(Some(Figures::from(&sample(100, 0, 1_000))));
    assert!(matches!(Tracks::default().look(&known, later), Some(Verdict::Stop(_))));
}

#[test]
fn what_fails_is_tried_again_ever_less_often() {
    let (mut tracks, shift, begin) = (Tracks::default(), rollout(), Instant::now());
    let good = shifting(&shift, Sample::default(), Sample::default());
    assert_eq!(tracks.look(&good, begin), None);
    let (mut tries, mut last, id) = (Vec::new(), begin, id(&good));
    for tenth in 100..3_000 {
        let now = begin + Duration::from_millis(tenth * 100);
        if let Some(verdict) = tracks.look(&good, now) {
            tracks.begin(&id);
            assert_eq!(tracks.look(&good, now), None, "it is under way");
            tracks.end(&id, verdict.what(), false, now);
            tries.push((now - last).as_millis());
            last = now;
        }
    }
    let pauses = [10_000, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
    assert_eq!(tries[..pauses.len()], pauses);
    // The way back does not wait for the way on.
    let bad = shifting(&shift, Sample::default(), sample(100, 50, 1));
    assert!(matches!(tracks.look(&bad, last), Some(Verdict::Stop(_))));
}

/// Calls of two versions, by chance, the same in every run.
struct Traffic {
    random: u64,
    per_second: u32,
    new: Sample,
    old: Sample,
}

impl Traffic {
    fn new(seed: u64, per_second: u32) -> Self {
        let random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        Self { random, per_second, new: Sample::default(), old: Sample::default() }
    }

    /// A number from 0 to 1: SplitMix64.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let number = ((z ^ (z >> 31)) >> 11) as f64;
        number / 2_f64.powi(53)
    }

    /// A second in which the new version has this share of the calls, and this share of them fail.
    fn second(&mut self, share: Percent, failing: f64) {
        /// Of the calls of a good version.
        const FAILING: f64 = 0.003;
        for _ in 0..self.per_second {
            let is_new = self.chance() * 10_000.0 < f64::from(share.hundredths());
            let fails = self.chance() < if is_new { failing.max(FAILING) } else { FAILING };
            // Log-normal around 10 ms; one in a hundred takes over 32 ms.
            let normal = (-2.0 * (1.0 - self.chance()).ln()).sqrt()
                * (std::f64::consts::TAU * self.chance()).cos();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let micros = (10_000.0 * (0.5 * normal).exp()) as u64;
            let side = if is_new { &mut self.new } else { &mut self.old };
            side.calls += 1;
            side.errors += u64::from(fails);
            side.durations.record(micros);
        }
    }
}

/// Whether, and after how many seconds of failing, a shift with the default steps is taken back. The new version begins to fail in the second step.
fn simulated(seed: u64, per_second: u32, stop_if: &str, failing: f64) -> Option<u64> {
    let start = model::api::StartShift::to(VersionRef::Number(2));
    let mut shift = Rollout {
        steps: start.canary,
        every_ms: start.every_ms,
        min_calls: start.min_calls,
        stop_if: vec![stop_if.parse().unwrap()],
        ..rollout()
    };
    let (mut traffic, mut tracks) = (Traffic::new(seed, per_second), Tracks::default());
    let begin = Instant::now();
    let mut failing_since = None;
    for second in 0.. {
        let bad = if shift.step > 0 { failing } else { 0.0 };
        if shift.step > 0 {
            failing_since.get_or_insert(second);
        }
        traffic.second(shift.share(), bad);
        let seen = shifting(&shift, traffic.old.clone(), traffic.new.clone());
        match tracks.look(&seen, begin + Duration::from_secs(second)) {
            None => {}
            Some(Verdict::Next(baseline)) => {
                shift.step += 1;
                shift.baseline = Some(baseline).filter(|_| shift.share() == Percent::ALL);
            }
            Some(Verdict::Done) => return None,
            Some(Verdict::Stop(_)) => return Some(second - failing_since.unwrap_or(second)),
        }
    }
    None
}

#[test]
fn a_version_that_is_no_worse_goes_through() {
    for stop_if in ["errors > 1%", "errors > 2x", "p99 > 2x"] {
        for per_second in [10, 200] {
            let stopped: Vec<_> = (0..100)
                .filter(|seed| simulated(*seed, per_second, stop_if, 0.0).is_some())
                .collect();
            assert!(stopped.len() <= 2, "{stop_if}, {per_second}/s: {stopped:?}");
        }
    }
}

#[test]
fn a_version_that_fails_five_per_cent_does_not() {
    // 20 calls a second of the new version in the second step.
    for stop_if in ["errors > 1%", "errors > 2x"] {
        let seen = |seed: &u64| simulated(*seed, 67, stop_if, 0.05).is_some_and(|s| s <= 126);
        let stopped = (0..100).filter(seen).count();
        assert!(stopped >= 98, "{stop_if}: {stopped}");
    }
}
