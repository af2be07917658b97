//! The calendar month that is billed, in a time zone: its slots, which of them have elapsed, and where nobody was heard.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use schemas::time::Timestamp;

use super::SLOT_SECONDS;

/// A slot counts so long after it is over: what ended in it has been exported and stored by then.
const SETTLE_SECONDS: u64 = 300;

const HOUR_MILLISECONDS: u64 = 3_600_000;

/// A calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month that a moment lies in.
    #[must_use]
    pub fn of(moment: Timestamp, zone: &TimeZone) -> Self {
        let date = at(moment).to_zoned(zone.clone()).date();
        Self { year: date.year(), month: date.month() }
    }

    /// The month that follows.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self { year, month: 12 } => Self { year: year + 1, month: 1 },
            Self { year, month } => Self { year, month: month + 1 },
        }
    }

    /// Its first moment; `None` beyond what a calendar holds.
    #[must_use]
    pub fn begins(self, zone: &TimeZone) -> Option<Timestamp> {
        let midnight = Date::new(self.year, self.month, 1).ok()?.to_zoned(zone.clone()).ok()?;
        u64::try_from(midnight.timestamp().as_millisecond()).ok().map(Timestamp)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:04}-{:02}", self.year, self.month)
    }
}

impl std::str::FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || "must be a month like 2026-11".to_owned();
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|digit| digit.is_ascii_digit());
        let (year, month) = text.split_once('-').filter(|(year, month)| digits(year, 4) && digits(month, 2)).ok_or_else(fault)?;
        let found = Self { year: year.parse().map_err(|_| fault())?, month: month.parse().map_err(|_| fault())? };
        // Minutes are kept as unsigned seconds since 1970, and days before it never were.
        if (1970..=2105).contains(&found.year) && (1..=12).contains(&found.month) { Ok(found) } else { Err(fault()) }
    }
}

/// A time zone by its name in the system's database.
///
/// # Errors
///
/// What is wrong with the name, for the one who gave it.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| "no time zone of that name is known here; one is Europe/Berlin".to_owned())
}

/// A run of slots in which nobody was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Start of the first.
    pub from: Timestamp,
    /// End of the last.
    pub to: Timestamp,
}

/// A month with its slots.
#[derive(Clone, Debug)]
pub struct Period {
    /// Which month.
    pub month: Month,
    /// First moment.
    pub from: Timestamp,
    /// First moment behind it.
    pub to: Timestamp,
    slots_elapsed: u32,
}

impl Period {
    /// The slots of a month as they are at `now`; `None` if none of them can have elapsed.
    #[must_use]
    pub fn new(month: Month, zone: &TimeZone, now: Timestamp) -> Option<Self> {
        let (from, to) = (month.begins(zone)?, month.next().begins(zone)?);
        if now < from {
            return None;
        }
        let elapsed = to.min(Timestamp(now.0.saturating_sub(SETTLE_SECONDS * 1_000))).since(from) / (SLOT_SECONDS * 1_000);
        Some(Self { month, from, to, slots_elapsed: u32::try_from(elapsed).unwrap_or(u32::MAX) })
    }

    /// Slots of the whole month.
    #[must_use]
    pub fn slots(&self) -> u32 {
        u32::try_from(self.to.since(self.from) / (SLOT_SECONDS * 1_000)).unwrap_or(u32::MAX)
    }

    /// Those that have elapsed.
    #[must_use]
    pub fn slots_elapsed(&self) -> u32 {
        self.slots_elapsed
    }

    /// Start of a slot; of the one behind the last that has elapsed, the end of what counts.
    #[must_use]
    pub fn slot(&self, number: u32) -> Timestamp {
        self.from.plus(u64::from(number) * SLOT_SECONDS * 1_000)
    }

    /// The end of what counts.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.slot(self.slots_elapsed)
    }

    /// The runs of elapsed slots that are not among `heard`, which ascend.
    #[must_use]
    pub fn gaps(&self, heard: &[u32]) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let mut next = 0;
        for &slot in heard.iter().filter(|slot| **slot < self.slots_elapsed).chain([&self.slots_elapsed]) {
            if slot > next {
                gaps.push(Gap { from: self.slot(next), to: self.slot(slot) });
            }
            next = slot + 1;
        }
        gaps
    }
}

fn at(moment: Timestamp) -> jiff::Timestamp {
    i64::try_from(moment.0)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

/// Which months can be billed, by what is kept: from the first that minutes cover as well as hours do, to the present one.
///
/// Hours outlive minutes. Where of the month of the first minute kept there are hours before that minute, its minutes have gone, and it cannot
/// be billed. Where there are none, nothing was collected before, which is a gap like any other.
#[must_use]
pub fn billable(
    first_minute: Option<Timestamp>,
    first_hour_of_month: Option<Timestamp>,
    zone: &TimeZone,
    now: Timestamp,
) -> (Month, Month) {
    let last = Month::of(now, zone);
    let Some(minute) = first_minute.filter(|minute| *minute <= now) else {
        return (last, last);
    };
    let month = Month::of(minute, zone);
    let is_cut = first_hour_of_month.is_some_and(|hour| hour.plus(HOUR_MILLISECONDS) <= minute);
    (if is_cut { month.next() } else { month }, last)
}
