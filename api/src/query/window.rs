//! The range of a question: moments as people write them, `now-1h`.

use schemas::time::Timestamp;

use super::level::Span;

/// What is asked of when nothing is said: the last hour.
const DEFAULT_SECONDS: u64 = 3_600;
/// The longest step of a chart.
pub const STEP_SECONDS_MAX: u64 = 366 * 86_400;
/// Ten years.
const SPAN_SECONDS_MAX: u64 = 3_660 * 86_400;
/// Units of a length of time, in seconds.
const UNITS: &[(char, u64)] = &[('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 604_800)];

/// A length of time like `90s`, `5m`, `1h`, `7d`, `2w`, or as bare seconds.
pub fn length(text: &str) -> Result<u64, String> {
    let fault = || "must be a length of time like 10s, 5m, 1h, 1d, or seconds".to_owned();
    let (digits, scale) = match UNITS.iter().find(|(unit, _)| text.ends_with(*unit)) {
        Some((unit, scale)) => (text.trim_end_matches(*unit), *scale),
        None => (text, 1),
    };
    let is_plain = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit()) && digits.len() + 1 >= text.len();
    let number: u64 = if is_plain { digits.parse().map_err(|_| fault())? } else { return Err(fault()) };
    number.checked_mul(scale).filter(|seconds| *seconds > 0).ok_or_else(fault)
}

/// A moment: ISO 8601, `now`, or `now-1h`.
pub fn moment(now: Timestamp) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let fault = || "must be an ISO 8601 time like 2026-11-20T12:00:00Z, now, or now-1h".to_owned();
        let seconds = now.milliseconds() / 1_000;
        // A plus sign that was not encoded came as a space.
        match text.strip_prefix("now").map(str::trim_start) {
            Some("") => Ok(seconds),
            Some(rest) => {
                let back = rest.strip_prefix('-').ok_or_else(fault)?;
                length(back).map(|back| seconds.saturating_sub(back)).map_err(|_| fault())
            }
            None => {
                let moment = text.replace(' ', "+").parse::<Timestamp>().map_err(|_| fault())?;
                Ok(moment.milliseconds() / 1_000)
            }
        }
    }
}

/// The range between what was said of its ends; the fault is that of the named end.
pub fn span(from: Option<u64>, to: Option<u64>, now: Timestamp) -> Result<Span, (&'static str, String)> {
    let to = to.unwrap_or(now.milliseconds() / 1_000);
    let from = from.unwrap_or(to.saturating_sub(DEFAULT_SECONDS));
    if from >= to {
        return Err(("from", "must be before to".to_owned()));
    }
    // The last point of a chart ends a step behind it.
    if to + STEP_SECONDS_MAX > u32::MAX.into() {
        return Err(("to", "must be before the year 2105".to_owned()));
    }
    if to - from > SPAN_SECONDS_MAX {
        return Err(("from", "must be at most ten years before to".to_owned()));
    }
    Ok(Span { from, to })
}

/// A second as answers show it.
#[must_use]
pub fn shown(seconds: u64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = Timestamp(1_795_176_000_000);
        let read = |text: &str| moment(now)(text).ok();
        assert_eq!(read("now"), Some(1_795_176_000));
        assert_eq!(read("now-90m"), Some(1_795_176_000 - 5_400));
        assert_eq!(read("2026-11-20T12:00:00Z"), Some(1_795_176_000));
        assert_eq!(read("2026-11-20T13:00:00 01:00"), Some(1_795_176_000));
        for bad in ["", "yesterday", "now+1h", "now-", "now-1y", "now-hh", "now--1h", "12", "now-99999999999999999999s"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!((length("10"), length("1d").ok(), length("0s").is_err(), length("5mm").is_err()), (Ok(10), Some(86_400), true, true));
    }

    #[test]
    fn a_range_ends_behind_its_beginning() {
        let now = Timestamp(1_795_176_000_000);
        assert_eq!(span(None, None, now), Ok(Span { from: 1_795_172_400, to: 1_795_176_000 }));
        assert!(span(Some(10), Some(10), now).is_err());
        assert!(span(Some(0), None, now).is_err());
    }
}
