//! The rules of a stream: what may be appended and where it goes, what a read gets and when it ends.
//!
//! Everything here is a plain value that is asked and answers at once. Time and randomness are arguments; what the rules
//! do not know is storage, the bytes on the wire, and who is asking.
//!
//! | file | question it answers |
//! |---|---|
//! | `admit` | may this input go in, and which numbers and times do its records get? |
//! | `read` | where does this read start, and after which record is it done? |
//! | `follow` | when does a reader at the tail get a heartbeat, and when has it waited long enough? |
//! | `model` | are the rules of `admit` the ones of the contract? (a check, driven by arbitrary bytes) |

mod admit;
mod follow;
#[doc(hidden)]
pub mod model;
mod read;

pub use admit::{Rejection, Sequencer};
pub use follow::{Due, FollowClock, HEARTBEAT_INTERVAL};
pub use read::{OutOfRange, PlannedStart, Progress, ReadMode, ReadPlan, Remaining};
