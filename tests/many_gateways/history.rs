//! What several clients did to one stream and saw of it, and whether one stream could have been behind it all.
//!
//! The state of a stream is its tail, the chained hash of all bodies up to there, and its fencing token. A history is
//! linearizable if every operation can be given one moment between its call and its return such that each saw the state
//! of its moment. An operation whose outcome is unknown has no return: it may have its moment any time, or never.
//!
//! In general that is a search. Here the records themselves say in which order the appends took effect, so that every
//! operation has its place among the states:
//!
//! ```text
//! state 0 ── append 0 ──► state 1 ── append 1 ──► state 2 …
//! rank  0        1             2        3              4
//! ```
//!
//! What remains is that ranks never fall in real time. Only an append refused for its fencing token may belong to any of
//! several states, namely all that had the token it was told; the first that time allows is the best choice, because a
//! lower rank forbids less to those that come after.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A moment: nanoseconds since the beginning of the run, on one clock for all clients.
pub type Moment = u64;

/// A record as it was sent, or found. Bodies are unique, but for those of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub body: Vec<u8>,
    /// It is a command that sets this fencing token.
    pub fence: Option<String>,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    pub called: Moment,
    /// Nothing: nobody knows whether and when it happened.
    pub returned: Option<Moment>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Append {
        records: Vec<Sent>,
        match_seq_num: Option<u64>,
        fencing_token: Option<String>,
        outcome: Outcome,
    },
    CheckTail {
        tail: u64,
    },
    /// Everything from the beginning to the tail was read.
    Read {
        tail: u64,
        hash: u64,
    },
}

/// What a client was told of its append.
#[derive(Clone, Debug)]
pub enum Outcome {
    Acked {
        start: u64,
        end: u64,
    },
    Fenced {
        current: String,
    },
    Misplaced {
        next: u64,
    },
    /// Refused for another reason, and nothing happened.
    Refused,
    Unknown,
}

/// The hash of all bodies up to one, from the hash of those before it.
pub fn chained(before: u64, body: &[u8]) -> u64 {
    xxh3_64_with_seed(body, before)
}

/// Why no single stream can have been behind a history. Numbers are indices into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// What was acknowledged is not there, or not at that place.
    Lost(usize),
    /// A record of it is there although it was refused, or in part only, or twice, or apart from the others.
    Torn(usize),
    /// Nobody sent what is at this sequence number.
    Foreign(u64),
    /// It succeeded where its condition did not hold.
    Unconditional(usize),
    /// It was refused for a reason that was never true.
    Untrue(usize),
    /// It saw bodies that never were the beginning of the stream.
    Misread(usize),
    /// It saw a state that was over when it was called, or that had not come when it returned.
    OutOfTime { operation: usize, rank: usize, at_least: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether `history` is that of one stream, which holds `records` in the end. Says how many appends had an effect.
pub fn check(history: &[Operation], records: &[Sent]) -> Result<usize, Violation> {
    let happened = Happened::find(history, records)?;
    let states = States::after(&happened, history, records);
    let mut wanted = Vec::with_capacity(history.len());
    for (index, operation) in history.iter().enumerate() {
        wanted.push(states.wanted(index, operation, &happened)?);
    }
    in_time(history, &wanted, &states)?;
    Ok(happened.order.len())
}

/// Which appends had an effect, and in which order.
struct Happened {
    /// Indices into the history, by sequence number.
    order: Vec<usize>,
    /// The place of each in that order.
    place: HashMap<usize, usize>,
}

impl Happened {
    fn find(history: &[Operation], records: &[Sent]) -> Result<Self, Violation> {
        let mut sender: HashMap<&[u8], usize> = HashMap::new();
        for (index, operation) in history.iter().enumerate() {
            if let What::Append { records, .. } = &operation.what {
                sender.extend(records.iter().map(|sent| (&sent.body[..], index)));
            }
        }
        let mut found = Self { order: Vec::new(), place: HashMap::new() };
        let mut next = 0;
        while next < records.len() {
            let index = *sender.get(&records[next].body[..]).ok_or(Violation::Foreign(next as u64))?;
            let What::Append { records: sent, outcome, .. } = &history[index].what else {
                unreachable!("only appends are senders");
            };
            let is_whole = records[next..].starts_with(sent);
            if !is_whole || found.place.insert(index, found.order.len()).is_some() {
                return Err(Violation::Torn(index));
            }
            let end = next + sent.len();
            match outcome {
                Outcome::Acked { start, end: told } if (*start, *told) == (next as u64, end as u64) => {}
                Outcome::Unknown => {}
                Outcome::Acked { .. } => return Err(Violation::Lost(index)),
                _ => return Err(Violation::Torn(index)),
            }
            found.order.push(index);
            next = end;
        }
        let is_lost = |(index, operation): (usize, &Operation)| match operation.what {
            What::Append { outcome: Outcome::Acked { .. }, .. } => !found.place.contains_key(&index),
            _ => false,
        };
        match history.iter().enumerate().position(is_lost) {
            Some(index) => Err(Violation::Lost(index)),
            None => Ok(found),
        }
    }
}

/// The state before every append, and the last one.
struct States {
    tokens: Vec<String>,
    /// By tail: which state has it, and the hash there.
    by_tail: BTreeMap<u64, (usize, u64)>,
}

/// Where among the ranks an operation may have its moment.
enum Wanted {
    Rank(usize),
    /// Any state with this token.
    Token(String),
    Anywhere,
}

impl States {
    fn after(happened: &Happened, history: &[Operation], records: &[Sent]) -> Self {
        let mut states = Self { tokens: vec![String::new()], by_tail: BTreeMap::from([(0, (0, 0))]) };
        let (mut tail, mut hash, mut token) = (0, 0, String::new());
        for (place, index) in happened.order.iter().enumerate() {
            let What::Append { records: sent, .. } = &history[*index].what else { continue };
            for record in &records[tail..tail + sent.len()] {
                hash = chained(hash, &record.body);
                token = record.fence.clone().unwrap_or(token);
            }
            tail += sent.len();
            states.tokens.push(token.clone());
            states.by_tail.insert(tail as u64, (place + 1, hash));
        }
        states
    }

    fn wanted(&self, index: usize, operation: &Operation, happened: &Happened) -> Result<Wanted, Violation> {
        let state_at = |tail: &u64| self.by_tail.get(tail).copied();
        match &operation.what {
            What::Append { match_seq_num, fencing_token, outcome, records: _ } => match outcome {
                Outcome::Acked { .. } | Outcome::Unknown => {
                    let Some(&place) = happened.place.get(&index) else { return Ok(Wanted::Anywhere) };
                    let is_at = |tail: u64| state_at(&tail).is_some_and(|(state, _)| state == place);
                    let holds = match_seq_num.is_none_or(is_at)
                        && fencing_token.as_ref().is_none_or(|token| *token == self.tokens[place]);
                    holds.then_some(Wanted::Rank(2 * place + 1)).ok_or(Violation::Unconditional(index))
                }
                Outcome::Fenced { current } => match fencing_token {
                    Some(token) if token != current => Ok(Wanted::Token(current.clone())),
                    _ => Err(Violation::Untrue(index)),
                },
                Outcome::Misplaced { next } => match (match_seq_num, state_at(next)) {
                    (Some(wanted), Some((state, _))) if wanted != next => Ok(Wanted::Rank(2 * state)),
                    _ => Err(Violation::Untrue(index)),
                },
                Outcome::Refused => Ok(Wanted::Anywhere),
            },
            What::CheckTail { tail } => match state_at(tail) {
                Some((state, _)) => Ok(Wanted::Rank(2 * state)),
                None => Err(Violation::Misread(index)),
            },
            What::Read { tail, hash } => match state_at(tail) {
                Some((state, there)) if there == *hash => Ok(Wanted::Rank(2 * state)),
                _ => Err(Violation::Misread(index)),
            },
        }
    }

    /// The first state with `token` whose rank is `rank` or more.
    fn first_with(&self, token: &str, rank: usize) -> Option<usize> {
        (rank.div_ceil(2)..self.tokens.len()).find(|state| self.tokens[*state] == token).map(|state| 2 * state)
    }
}

/// Ranks never fall from an operation that returned to one that was called after that.
fn in_time(history: &[Operation], wanted: &[Wanted], states: &States) -> Result<(), Violation> {
    let mut by_call: Vec<usize> = (0..history.len()).collect();
    by_call.sort_by_key(|index| history[*index].called);
    // What is certain when the operations until a moment have returned. Moments and ranks both grow.
    let mut certain: BTreeMap<Moment, usize> = BTreeMap::new();
    for index in by_call {
        let operation = &history[index];
        let at_least = certain.range(..operation.called).next_back().map_or(0, |(_, rank)| *rank);
        let rank = match &wanted[index] {
            Wanted::Anywhere => continue,
            Wanted::Rank(rank) => *rank,
            Wanted::Token(token) => states.first_with(token, at_least).ok_or(Violation::Untrue(index))?,
        };
        if rank < at_least {
            return Err(Violation::OutOfTime { operation: index, rank, at_least });
        }
        if let Some(returned) = operation.returned {
            note(&mut certain, returned, rank);
        }
    }
    Ok(())
}

/// From `moment` on, `rank` has been reached.
fn note(certain: &mut BTreeMap<Moment, usize>, moment: Moment, rank: usize) {
    if certain.range(..=moment).next_back().is_some_and(|(_, known)| *known >= rank) {
        return;
    }
    let outdone: Vec<_> = certain.range(moment..).take_while(|(_, known)| **known <= rank).map(|(at, _)| *at).collect();
    for at in outdone {
        certain.remove(&at);
    }
    certain.insert(moment, rank);
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn sent(body: &str) -> Sent {
        Sent { body: body.into(), fence: None }
    }

    fn fence(body: &str, token: &str) -> Sent {
        Sent { body: body.into(), fence: Some(token.into()) }
    }

    fn append(called: Moment, returned: Option<Moment>, records: &[Sent], outcome: Outcome) -> Operation {
        let records = records.to_vec();
        Operation {
            called,
            returned,
            what: What::Append { records, match_seq_num: None, fencing_token: None, outcome },
        }
    }

    fn acked(called: Moment, returned: Moment, body: &str, start: u64) -> Operation {
        append(called, Some(returned), &[sent(body)], Outcome::Acked { start, end: start + 1 })
    }

    fn unknown(called: Moment, body: &str) -> Operation {
        append(called, None, &[sent(body)], Outcome::Unknown)
    }

    fn tail(called: Moment, returned: Moment, tail: u64) -> Operation {
        Operation { called, returned: Some(returned), what: What::CheckTail { tail } }
    }

    fn conditional(mut operation: Operation, seq_num: Option<u64>, token: Option<&str>) -> Operation {
        let What::Append { match_seq_num, fencing_token, .. } = &mut operation.what else { unreachable!() };
        (*match_seq_num, *fencing_token) = (seq_num, token.map(Into::into));
        operation
    }

    #[test]
    fn appends_that_overlap_may_have_happened_in_either_order() {
        let history = [acked(0, 10, "a", 1), acked(0, 10, "b", 0), tail(2, 8, 1)];
        assert_eq!(check(&history, &[sent("b"), sent("a")]), Ok(2));
    }

    #[test]
    fn an_append_that_returned_comes_before_one_called_later() {
        let history = [acked(0, 1, "a", 1), acked(2, 3, "b", 0)];
        let found = check(&history, &[sent("b"), sent("a")]);
        assert_eq!(found, Err(Violation::OutOfTime { operation: 1, rank: 1, at_least: 3 }));
    }

    #[test]
    fn a_stale_tail_is_found() {
        let history = [acked(0, 1, "a", 0), tail(2, 3, 0)];
        assert_eq!(check(&history, &[sent("a")]), Err(Violation::OutOfTime { operation: 1, rank: 0, at_least: 1 }));
    }

    #[test]
    fn a_tail_that_went_back_is_found_although_the_append_is_not_over() {
        let history = [acked(0, 10, "a", 0), tail(1, 2, 1), tail(3, 4, 0)];
        assert_eq!(check(&history, &[sent("a")]), Err(Violation::OutOfTime { operation: 2, rank: 0, at_least: 2 }));
    }

    #[test]
    fn a_record_that_is_there_twice_is_found() {
        let history = [acked(0, 1, "a", 0)];
        assert_eq!(check(&history, &[sent("a"), sent("a")]), Err(Violation::Torn(0)));
    }

    #[test]
    fn what_is_unknown_may_have_happened_late_or_never() {
        let history = [unknown(0, "a"), acked(1, 2, "b", 0), tail(3, 4, 1)];
        assert_eq!(check(&history, &[sent("b")]), Ok(1));
        assert_eq!(check(&history, &[sent("b"), sent("a")]), Ok(2));
    }

    #[test]
    fn what_is_unknown_cannot_have_happened_before_its_call() {
        let history = [acked(1, 2, "b", 1), unknown(3, "a")];
        let found = check(&history, &[sent("a"), sent("b")]);
        assert_eq!(found, Err(Violation::OutOfTime { operation: 1, rank: 1, at_least: 3 }));
    }

    #[test]
    fn lost_torn_and_foreign_records_are_found() {
        let pair = [sent("a"), sent("b")];
        let both = append(0, Some(1), &pair, Outcome::Acked { start: 0, end: 2 });
        assert_eq!(check(slice::from_ref(&both), &[]), Err(Violation::Lost(0)));
        assert_eq!(check(slice::from_ref(&both), &[sent("a")]), Err(Violation::Torn(0)));
        assert_eq!(
            check(&[both.clone(), acked(0, 1, "c", 1)], &[sent("a"), sent("c"), sent("b")]),
            Err(Violation::Torn(0))
        );
        assert_eq!(check(&[both], &[sent("x"), sent("a"), sent("b")]), Err(Violation::Foreign(0)));
        let refused = append(0, Some(1), &[sent("a")], Outcome::Refused);
        assert_eq!(check(&[refused], &[sent("a")]), Err(Violation::Torn(0)));
    }

    #[test]
    fn a_condition_holds_where_it_succeeded_and_fails_where_it_failed() {
        let first = acked(0, 1, "a", 0);
        let wrong = conditional(acked(2, 3, "b", 1), Some(0), None);
        assert_eq!(check(&[first.clone(), wrong], &[sent("a"), sent("b")]), Err(Violation::Unconditional(1)));
        let right = conditional(acked(2, 3, "b", 1), Some(1), Some(""));
        assert_eq!(check(&[first.clone(), right], &[sent("a"), sent("b")]), Ok(2));
        let misplaced = |next| append(2, Some(3), &[sent("b")], Outcome::Misplaced { next });
        let was_right = conditional(misplaced(1), Some(1), None);
        assert_eq!(check(&[first.clone(), was_right], &[sent("a")]), Err(Violation::Untrue(1)));
        let stale = conditional(misplaced(0), Some(1), None);
        let out_of_time = Violation::OutOfTime { operation: 1, rank: 0, at_least: 1 };
        assert_eq!(check(&[first, stale], &[sent("a")]), Err(out_of_time));
    }

    #[test]
    fn a_fence_is_in_force_from_its_append_on() {
        let set = append(0, Some(1), &[fence("f", "x")], Outcome::Acked { start: 0, end: 1 });
        let through = conditional(acked(2, 3, "a", 1), None, Some("x"));
        let fenced = |current: &str| {
            let outcome = Outcome::Fenced { current: current.into() };
            conditional(append(4, Some(5), &[sent("b")], outcome), None, Some("y"))
        };
        let records = [fence("f", "x"), sent("a")];
        assert_eq!(check(&[set.clone(), through.clone(), fenced("x")], &records), Ok(2));
        assert_eq!(check(&[set.clone(), through.clone(), fenced("")], &records), Err(Violation::Untrue(2)));
        let slipped = conditional(acked(2, 3, "a", 1), None, Some("y"));
        assert_eq!(check(&[set, slipped], &records), Err(Violation::Unconditional(1)));
    }

    #[test]
    fn a_read_sees_the_bodies_of_its_tail() {
        let read = |hash| Operation { called: 2, returned: Some(3), what: What::Read { tail: 1, hash } };
        let first = acked(0, 1, "a", 0);
        assert_eq!(check(&[first.clone(), read(chained(0, b"a"))], &[sent("a")]), Ok(1));
        assert_eq!(check(&[first, read(chained(0, b"b"))], &[sent("a")]), Err(Violation::Misread(1)));
    }
}
