//! Whether the servers can be trusted with what they acknowledge: their version, their limits, and that they sync first.
//!
//! Only the servers' monitoring tells whether they sync. It is asked over plain HTTP, once, when the gateway starts, and
//! two facts are picked out of its answer; what else it says is not looked at.

use std::{collections::HashSet, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::connect_error::ConnectError;

/// The oldest version whose conditions on other subjects, rollups and lifetimes work together.
pub(super) const LEAST_VERSION: [u64; 3] = [2, 12, 0];
/// A batch of the largest size, with its index, and room for more than one.
pub(super) const LEAST_PAYLOAD: usize = 2 * 1024 * 1024;
/// How long a server's monitoring may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// More than a server says of itself.
const LONGEST_ANSWER: u64 = 4 * 1024 * 1024;

/// What is known of whether servers sync before they acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncing {
    /// A majority said so.
    Seen,
    /// The operator said so.
    Assumed,
}

impl Syncing {
    pub(super) const fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Seen => None,
            Self::Assumed => Some("nobody checked that the NATS servers sync before they acknowledge"),
        }
    }
}

pub(super) fn check_version(text: &str) -> Result<(), ConnectError> {
    let mut numbers = text.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version: [u64; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    match version >= LEAST_VERSION {
        true => Ok(()),
        false => Err(ConnectError::Version(text.into())),
    }
}

pub(super) fn check_payload(max_payload: usize) -> Result<(), ConnectError> {
    match max_payload >= LEAST_PAYLOAD {
        true => Ok(()),
        false => Err(ConnectError::Payload(max_payload)),
    }
}

/// `address` as it may be shown: what stands before the @ may be a password.
pub(super) fn without_user(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, host)| host)
}

/// Asks `monitors`, addresses of servers' monitoring, whether a majority of `replicas` servers sync; none may say that it
/// does not. A server that is asked at two addresses counts once.
pub(super) async fn check_syncing(monitors: &[String], replicas: usize) -> Result<(), ConnectError> {
    let mut seen = HashSet::new();
    let mut silent = None;
    for monitor in monitors {
        let shown = without_user(monitor).to_owned();
        match ask(monitor).await {
            Ok(said) if syncs_always(&said) => _ = seen.insert(server_id(&said).unwrap_or(shown)),
            Ok(_) => return Err(ConnectError::NotSyncing(shown)),
            Err(reason) => silent = Some(format!("{shown}: {reason}")),
        }
    }
    let seen = seen.len();
    match seen > replicas / 2 {
        true => Ok(()),
        false => Err(ConnectError::SyncUnseen {
            seen,
            needed: replicas / 2 + 1,
            reason: silent.unwrap_or_else(|| "name the monitoring of more servers with --nats-monitor".into()),
        }),
    }
}

/// What a server says of itself.
async fn ask(monitor: &str) -> Result<String, String> {
    let address = monitor.strip_prefix("http://").unwrap_or(monitor).trim_end_matches('/');
    let asking = async {
        let mut connection = TcpStream::connect(address).await?;
        let request = format!("GET /varz HTTP/1.0\r\nhost: {address}\r\naccept: application/json\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(ANSWER_WITHIN, asking).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.split_once("\r\n") {
        Some((status, rest)) if status.split(' ').nth(1) == Some("200") => Ok(rest.into()),
        _ => Err("it is no monitoring of a NATS server".into()),
    }
}

/// What the server calls itself: not twice the same.
fn server_id(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("\"server_id\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn syncs_always(said: &str) -> bool {
    let values = said.split("\"sync_always\"").skip(1);
    values.map(|rest| rest.trim_start_matches([' ', '\t', '\r', '\n', ':'])).any(|value| value.starts_with("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for (text, ok) in [
            ("2.12.0", true),
            ("2.12.3-RC.1", true),
            ("2.15.1", true),
            ("3.0.0", true),
            ("2.11.9", false),
            ("1.99.99", false),
            ("", false),
        ] {
            assert_eq!(check_version(text).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn small_messages_are_refused() {
        assert!(check_payload(2 << 20).is_ok());
        let refused = check_payload(1 << 20).unwrap_err().to_string();
        assert!(refused.contains("max_payload") && refused.contains("1048576"), "{refused}");
    }

    #[test]
    fn syncing_is_read_from_what_servers_say() {
        assert!(syncs_always(r#"{"jetstream": {"config": {"sync_interval": 120000000000, "sync_always": true}}}"#));
        assert!(!syncs_always(r#"{"jetstream": {"config": {"sync_always": false}}}"#));
        assert!(!syncs_always(r#"{"jetstream": {"config": {"sync_interval": 120000000000}}}"#));
    }

    #[test]
    fn a_server_is_known_by_its_id() {
        assert_eq!(server_id("{\n  \"server_id\": \"NDX4\",\n  \"server_name\": \"n1\"").as_deref(), Some("NDX4"));
        assert_eq!(server_id("{}"), None);
    }

    #[test]
    fn no_password_is_shown() {
        for address in ["http://ops:se@cret@10.0.0.1:8222", "10.0.0.1:8222"] {
            assert_eq!(without_user(address), "10.0.0.1:8222");
        }
    }
}
