//! Days and seconds: UTC in the proleptic Gregorian calendar, without leap seconds, as POSIX counts.

/// The months as logs have them.
pub const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const DAY: i64 = 86_400;
/// Days in 400 years, after which the calendar repeats.
const ERA: i64 = 146_097;
/// From 1 March of the year 0 to 1 January 1970, days.
const TO_EPOCH: i64 = 719_468;

/// A second, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1970 and so on.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Civil {
    /// The second that is `seconds` after 1970-01-01 00:00:00.
    pub fn from_epoch(seconds: i64) -> Civil {
        let (days, within) = (seconds.div_euclid(DAY) + TO_EPOCH, seconds.rem_euclid(DAY));
        // Years that begin in March end with the day that not all of them have.
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let small = |value: i64| u8::try_from(value).unwrap_or_default();
        Civil {
            year: era * 400 + year + i64::from(month <= 2),
            month: small(month),
            day: small(day - (153 * from_march + 2) / 5 + 1),
            hour: small(within / 3600),
            minute: small(within / 60 % 60),
            second: small(within % 60),
        }
    }
}

/// Seconds since 1970-01-01 00:00:00; `None` if there is no such second (30 February, 25 o'clock). A leap second, 60, is
/// the next minute's first.
pub fn seconds_since_epoch(civil: Civil) -> Option<i64> {
    let Civil { year, month, day, hour, minute, second } = civil;
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let from_march = (i64::from(month) + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    let days = era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - TO_EPOCH;
    let noon = Civil::from_epoch(days * DAY);
    let exists = (noon.year, noon.month, noon.day) == (year, month, day);
    exists.then(|| days * DAY + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_days_of_the_calendar_and_back() {
        let civil = |year, month, day, hour, minute, second| Civil { year, month, day, hour, minute, second };
        for (seconds, expected) in [
            (0, civil(1970, 1, 1, 0, 0, 0)),
            (-1, civil(1969, 12, 31, 23, 59, 59)),
            (951_782_400, civil(2000, 2, 29, 0, 0, 0)),
            (1_795_433_625, civil(2026, 11, 23, 11, 33, 45)),
            (4_107_542_399, civil(2100, 2, 28, 23, 59, 59)),
            (4_107_542_400, civil(2100, 3, 1, 0, 0, 0)),
        ] {
            assert_eq!(Civil::from_epoch(seconds), expected, "{seconds}");
            assert_eq!(seconds_since_epoch(expected), Some(seconds));
        }
        for day in -20_000..60_000 {
            let seconds = day * DAY + day.rem_euclid(DAY);
            assert_eq!(seconds_since_epoch(Civil::from_epoch(seconds)), Some(seconds));
        }
    }

    #[test]
    fn there_are_days_that_do_not_exist() {
        let ok = Civil { year: 2026, month: 2, day: 28, hour: 0, minute: 0, second: 0 };
        assert!(seconds_since_epoch(ok).is_some());
        for bad in [
            Civil { day: 29, ..ok },
            Civil { day: 0, ..ok },
            Civil { month: 0, ..ok },
            Civil { month: 13, ..ok },
            Civil { hour: 24, ..ok },
            Civil { minute: 60, ..ok },
            Civil { second: 61, ..ok },
            Civil { year: 0, ..ok },
        ] {
            assert_eq!(seconds_since_epoch(bad), None, "{bad:?}");
        }
    }
}
