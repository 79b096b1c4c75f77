//! Listings to standard output, page by page: as columns for people, or as lines of JSON.

use std::io::Write;

use super::CliError;
use crate::{
    client::ClientError,
    config::ListFormat,
    types::{Page, Timestamp, limits::MAX_LIST_LIMIT},
    wire::{json::Rfc3339, params::ListRequest},
};

/// An entry of a listing.
pub(super) trait Listed {
    /// What may stand for the beginning of its name.
    type Part: Default;

    /// What the columns are called.
    const COLUMNS: &'static [&'static str];

    /// What it has in each column.
    fn cells(&self) -> Vec<String>;

    /// All of it, as the API says it.
    fn json(&self) -> Vec<u8>;

    /// Where the entries after it begin.
    fn place(&self) -> Self::Part;
}

/// Writes all entries whose names begin with `prefix`, as they come; `page` asks for some of them.
pub(super) async fn print_pages<T: Listed>(
    mut out: impl Write,
    format: ListFormat,
    prefix: T::Part,
    page: impl AsyncFn(&ListRequest<T::Part>) -> Result<Page<T>, ClientError>,
) -> Result<(), CliError> {
    let mut request = ListRequest { prefix, start_after: T::Part::default(), limit: MAX_LIST_LIMIT };
    let mut heading = Some(T::COLUMNS);
    loop {
        let Page { entries, has_more } = page(&request).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        let text = match format {
            ListFormat::Table => table(heading.take(), &entries),
            ListFormat::Json => entries.iter().flat_map(|entry| [entry.json(), vec![b'\n']]).flatten().collect(),
        };
        out.write_all(&text).and_then(|()| out.flush()).map_err(CliError::Output)?;
        match has_more {
            true => request.start_after = last.place(),
            false => return Ok(()),
        }
    }
}

/// Rows of cells, each column as wide as its widest cell, two spaces between them.
fn table<T: Listed>(heading: Option<&[&str]>, entries: &[T]) -> Vec<u8> {
    let heading = heading.map(|cells| cells.iter().map(|cell| cell.to_string()).collect());
    let rows: Vec<Vec<String>> = heading.into_iter().chain(entries.iter().map(T::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..T::COLUMNS.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect::<String>().into_bytes()
}

/// A name for a terminal, which would obey control characters.
pub(super) fn shown(name: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.into(),
    };
    name.chars().map(escaped).collect()
}

/// A time for people.
pub(super) fn time(timestamp: Timestamp) -> String {
    Rfc3339(timestamp).to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::types::{StreamInfo, StreamName, StreamNamePart};

    fn stream(name: &str) -> StreamInfo {
        let name = StreamName::new(name).unwrap();
        StreamInfo { name, created_at: Timestamp::new(0), deleted_at: None, cipher: None }
    }

    /// What is written of pages with these names, and after which names they were asked for.
    async fn printed(format: ListFormat, pages: &[&[&str]]) -> (String, Vec<String>) {
        let asked = RefCell::new(Vec::new());
        let page = async |request: &ListRequest<StreamNamePart>| {
            assert_eq!((request.prefix.as_str(), request.limit), ("a", 1000));
            let number = asked.borrow().len();
            asked.borrow_mut().push(request.start_after.to_string());
            let entries = pages[number].iter().map(|name| stream(name)).collect();
            Ok(Page { entries, has_more: number + 1 < pages.len() })
        };
        let mut out = Vec::new();
        print_pages(&mut out, format, StreamNamePart::new("a").unwrap(), page).await.unwrap();
        (String::from_utf8(out).unwrap(), asked.into_inner())
    }

    #[tokio::test]
    async fn columns_have_one_heading() {
        let (text, asked) = printed(ListFormat::Table, &[&["a", "a/long/er"], &["a\n\u{9b}é"]]).await;
        let expected = "\
STREAM     CREATED                   CIPHER  STATE
a          1970-01-01T00:00:00.000Z  -       active
a/long/er  1970-01-01T00:00:00.000Z  -       active
a\\n\\u{9b}é  1970-01-01T00:00:00.000Z  -  active
";
        assert_eq!((text.as_str(), asked), (expected, vec!["".into(), "a/long/er".into()]));
    }

    #[tokio::test]
    async fn json_is_a_line_each() {
        let (text, _) = printed(ListFormat::Json, &[&["a", "a\nb"], &["ac"]]).await;
        let names: Vec<_> = text.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
        assert_eq!(names, ["a", r"a\nb", "ac"]);
    }

    #[tokio::test]
    async fn nothing_is_nothing() {
        for format in [ListFormat::Table, ListFormat::Json] {
            assert_eq!(printed(format, &[&[]]).await.0, "");
            // A server that says that there is more and has nothing is not asked for ever.
            assert_eq!(printed(format, &[&[], &["a"]]).await.1.len(), 1);
        }
    }
}
