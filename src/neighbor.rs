//! Who has which MAC: the state of one neighbour, by ARP or ND alike (after RFC 4861 section 7.3).
//!
//! Pure: it says when to ask, is told what was answered, and says what has changed. It trusts an answer only while a
//! question of its own is open; what it hears unasked makes it ask.

use std::time::{Duration, Instant};

use crate::wire::ether::Mac;

/// When to ask, and for how long to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two questions while an answer is missing.
    pub retry: Duration,
    /// Questions without an answer until the neighbour counts as gone.
    pub attempts: u32,
    /// How long an answer is believed before it is asked for again.
    pub revalidate: Duration,
    /// The longest pause between questions to a neighbour that is gone; the pause doubles up to here.
    pub backoff: Duration,
    /// Unasked news about a neighbour makes us ask at most this often.
    pub news: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            retry: Duration::from_millis(500),
            attempts: 3,
            revalidate: Duration::from_secs(5),
            backoff: Duration::from_secs(1),
            news: Duration::from_secs(1),
        }
    }
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// All of the segment.
    Everybody,
    /// The MAC that answered last.
    Directly(Mac),
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It answered, for the first time or after it was gone.
    Found(Mac),
    /// It answers with another MAC than before.
    Moved {
        /// Until now.
        from: Mac,
        /// From now on.
        to: Mac,
    },
    /// Two stations answer the same question; the first one counts.
    Ambiguous {
        /// Believed.
        first: Mac,
        /// Not believed.
        other: Mac,
    },
    /// It does not answer.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not heard of yet.
    Resolving { asked: u32 },
    /// Answered.
    Reachable { mac: Mac },
    /// Answered once; asked again.
    Checking { mac: Mac, asked: u32 },
    /// Does not answer.
    Gone { pause: Duration },
}

/// One neighbour.
#[derive(Clone, Debug)]
pub struct Neighbor {
    timing: Timing,
    state: State,
    /// When there is something to do next.
    next: Instant,
    /// Answers count until then.
    open_until: Option<Instant>,
    /// Who has answered the open question.
    answered: Option<Mac>,
    /// Has a second answer to it been reported?
    disputed: bool,
    last_news: Option<Instant>,
}

impl Neighbor {
    /// A neighbour that nothing is known of.
    pub fn new(timing: Timing, now: Instant) -> Neighbor {
        Neighbor {
            timing,
            state: State::Resolving { asked: 0 },
            next: now,
            open_until: None,
            answered: None,
            disputed: false,
            last_news: None,
        }
    }

    /// Its MAC, if it has one that is believed.
    pub fn mac(&self) -> Option<Mac> {
        match self.state {
            State::Reachable { mac } | State::Checking { mac, .. } => Some(mac),
            State::Resolving { .. } | State::Gone { .. } => None,
        }
    }

    /// Has it failed to answer, so that nobody should be sent there?
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone { .. })
    }

    /// From now on this is when it asks.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// Is an answer missing that should have come?
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.state, State::Checking { asked: 2.., .. })
    }

    /// When [`Neighbor::poll`] has something to say next.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// What to ask now, and what has changed by the passing of time.
    pub fn poll(&mut self, now: Instant) -> (Option<Question>, Option<Change>) {
        if now < self.next {
            return (None, None);
        }
        let Timing { retry, attempts, backoff, .. } = self.timing;
        match self.state {
            State::Resolving { asked } if asked < attempts => {
                self.state = State::Resolving { asked: asked + 1 };
                (Some(self.ask(Question::Everybody, retry, now)), None)
            }
            State::Reachable { mac } => {
                self.state = State::Checking { mac, asked: 1 };
                (Some(self.ask(Question::Directly(mac), retry, now)), None)
            }
            State::Checking { mac, asked } if asked < attempts => {
                self.state = State::Checking { mac, asked: asked + 1 };
                // The last two go to all: it may have a new MAC.
                let question = if asked + 2 >= attempts { Question::Everybody } else { Question::Directly(mac) };
                (Some(self.ask(question, retry, now)), None)
            }
            State::Resolving { .. } | State::Checking { .. } => {
                self.state = State::Gone { pause: retry };
                self.next = now + retry;
                (None, Some(Change::Lost))
            }
            State::Gone { pause } => {
                let pause = (pause * 2).min(backoff);
                self.state = State::Gone { pause };
                (Some(self.ask(Question::Everybody, pause, now)), None)
            }
        }
    }

    fn ask(&mut self, question: Question, pause: Duration, now: Instant) -> Question {
        self.next = now + pause;
        self.open_until = Some(now + pause.max(self.timing.news));
        self.answered = None;
        self.disputed = false;
        question
    }

    /// `mac` answered. Without an open question nothing happens.
    pub fn answer(&mut self, mac: Mac, now: Instant) -> Option<Change> {
        if !mac.is_station() || self.open_until.is_none_or(|until| now > until) {
            return None;
        }
        if let Some(first) = self.answered {
            // Once a question is enough, however often it is answered.
            let news = first != mac && !self.disputed;
            self.disputed |= news;
            return news.then_some(Change::Ambiguous { first, other: mac });
        }
        let known = self.mac();
        self.answered = Some(mac);
        self.state = State::Reachable { mac };
        self.next = now + self.timing.revalidate;
        match known {
            None => Some(Change::Found(mac)),
            Some(from) if from != mac => Some(Change::Moved { from, to: mac }),
            Some(_) => None,
        }
    }

    /// Somebody said unasked that this address is at `mac`: a reason to ask, if it is news.
    pub fn overhear(&mut self, mac: Mac, now: Instant) {
        if self.mac() == Some(mac) || self.last_news.is_some_and(|last| now < last + self.timing.news) {
            return;
        }
        self.last_news = Some(now);
        self.state = match self.state {
            // Ask all at once, and once more if nobody answers.
            State::Reachable { mac } | State::Checking { mac, .. } => {
                State::Checking { mac, asked: self.timing.attempts.saturating_sub(2) }
            }
            // Being asked for already; news must not keep a silent one from counting as gone.
            State::Resolving { asked } => State::Resolving { asked },
            State::Gone { .. } => State::Gone { pause: self.timing.retry },
        };
        self.next = now;
    }

    /// Asks again now, whatever is believed: the link was away.
    pub fn recheck(&mut self, now: Instant) {
        self.next = now;
        if let State::Gone { .. } = self.state {
            self.state = State::Gone { pause: self.timing.retry };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const MS: Duration = Duration::from_millis(1);

    /// Lets time pass until `end`; what was asked and what changed on the way.
    fn run(n: &mut Neighbor, now: &mut Instant, end: Instant) -> (Vec<Question>, Vec<Change>) {
        let (mut asked, mut changed) = (vec![], vec![]);
        while n.deadline() <= end {
            *now = n.deadline().max(*now);
            let (question, change) = n.poll(*now);
            asked.extend(question);
            changed.extend(change);
        }
        *now = end;
        (asked, changed)
    }

    #[test]
    fn silence_makes_it_gone_and_an_answer_brings_it_back() {
        let mut now = Instant::now();
        let start = now;
        let mut n = Neighbor::new(Timing::default(), now);
        let (asked, changed) = run(&mut n, &mut now, start + 1500 * MS);
        assert_eq!((asked.len(), changed), (3, vec![Change::Lost]));
        assert!(n.is_gone());
        let (asked, changed) = run(&mut n, &mut now, start + Duration::from_secs(60));
        assert!((50..=65).contains(&asked.len()) && changed.is_empty(), "{} questions in a minute", asked.len());
        assert_eq!(n.answer(A, now), Some(Change::Found(A)));
        assert_eq!(n.mac(), Some(A));
    }

    #[test]
    fn answers_that_were_not_asked_for_are_not_believed() {
        let now = Instant::now();
        let mut n = Neighbor::new(Timing::default(), now);
        assert_eq!(n.answer(A, now), None);
        n.poll(now);
        assert_eq!(n.answer(A, now + MS), Some(Change::Found(A)));
        // The question is answered: a late second answer is suspicious, and one hours later means nothing.
        assert_eq!(n.answer(B, now + 2 * MS), Some(Change::Ambiguous { first: A, other: B }));
        assert_eq!(n.answer(B, now + Duration::from_secs(3)), None);
        assert_eq!(n.mac(), Some(A));
    }

    #[test]
    fn a_changed_mac_is_noticed_by_asking() {
        let now = Instant::now();
        let mut n = Neighbor::new(Timing::default(), now);
        n.poll(now);
        n.answer(A, now);
        let later = now + Duration::from_secs(2);
        n.overhear(B, later);
        assert_eq!(n.mac(), Some(A), "news alone changes nothing");
        assert_eq!(n.poll(later), (Some(Question::Everybody), None));
        assert_eq!(n.answer(B, later + MS), Some(Change::Moved { from: A, to: B }));
    }

    #[test]
    fn news_makes_it_ask_only_so_often() {
        let mut now = Instant::now();
        let start = now;
        let mut n = Neighbor::new(Timing::default(), now);
        n.poll(now);
        n.answer(A, now);
        let mut questions = 0;
        while now < start + Duration::from_secs(4) {
            n.overhear(B, now);
            questions += usize::from(n.poll(now).0.is_some());
            n.answer(A, now);
            now += 10 * MS;
        }
        assert!(questions <= 6, "{questions}");
    }

    #[test]
    fn a_reachable_neighbour_is_asked_directly_then_by_all() {
        let mut now = Instant::now();
        let start = now;
        let mut n = Neighbor::new(Timing::default(), now);
        n.poll(now);
        n.answer(A, now);
        let (asked, changed) = run(&mut n, &mut now, start + 6500 * MS);
        assert_eq!(asked[..3], [Question::Directly(A), Question::Everybody, Question::Everybody]);
        assert_eq!(changed, [Change::Lost]);
    }

    #[test]
    fn an_endless_dispute_is_reported_once_a_question() {
        let now = Instant::now();
        let mut n = Neighbor::new(Timing::default(), now);
        n.poll(now);
        n.answer(A, now);
        assert_eq!((0..1000).filter(|_| n.answer(B, now + MS).is_some()).count(), 1);
    }

    #[test]
    fn false_claims_and_one_lost_answer_do_not_take_a_neighbour_out() {
        let mut now = Instant::now();
        let start = now;
        let mut n = Neighbor::new(Timing::default(), now);
        n.poll(now);
        n.answer(A, now);
        n.overhear(B, now + MS);
        // The first question's answer is lost, the second's is not.
        let (asked, changed) = run(&mut n, &mut now, start + 600 * MS);
        assert_eq!((asked.len(), changed), (2, vec![]));
        assert_eq!(n.answer(A, now), None);
        assert_eq!(n.mac(), Some(A));
    }

    #[test]
    fn claims_do_not_keep_a_silent_neighbour_from_being_gone() {
        let start = Instant::now();
        let mut n = Neighbor::new(Timing::default(), start);
        let mut now = start;
        while now < start + Duration::from_secs(3) {
            n.overhear(B, now);
            n.poll(now);
            now += 100 * MS;
        }
        assert!(n.is_gone());
    }
}
