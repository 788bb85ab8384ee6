//! Pages of lists: where the next one begins, and how far one call looks.
//!
//! A page token is the id of the last row that was looked at. It is no secret and carries no right:
//! every page is authorised on its own.

use twinkeep_core::record::Record;
use twinkeep_core::state::Read;

use crate::error::CallError;
use crate::limits::PAGE_ROWS_MAX;

/// Rows read at a time.
const CHUNK_ROWS: usize = 128;

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<R> {
    /// What it shows.
    pub(crate) shown: Vec<R>,
    /// The token of the next page; empty if there is none.
    pub(crate) next_token: String,
}

/// Reads the rows after `after` and shows up to `size` of those that `wanted` takes. `token` writes a
/// row's id.
pub(crate) fn read<R: Record>(
    view: &dyn Read,
    after: Option<&R::Id>,
    size: usize,
    wanted: impl Fn(&R) -> bool,
    token: impl Fn(&R) -> String,
) -> Result<Page<R>, CallError> {
    let mut from = after.map(|id| following(R::row(id))).unwrap_or_default();
    let mut page = Page { shown: Vec::new(), next_token: String::new() };
    let mut looked_at = 0;
    loop {
        let rows = R::list(view, &[], &from, CHUNK_ROWS)?;
        if rows.is_empty() {
            return Ok(page);
        }
        for row in rows {
            from = following(row.own_row());
            looked_at += 1;
            let full = page.shown.len() + usize::from(wanted(&row)) == size;
            if (full || looked_at == PAGE_ROWS_MAX) && !R::list(view, &[], &from, 1)?.is_empty() {
                page.next_token = token(&row);
            }
            if wanted(&row) {
                page.shown.push(row);
            }
            if full || looked_at == PAGE_ROWS_MAX {
                return Ok(page);
            }
        }
    }
}

/// Returns the smallest row that is behind a row.
fn following(mut row: Vec<u8>) -> Vec<u8> {
    row.push(0);
    row
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::Revision;
    use twinkeep_core::name::CallerName;
    use twinkeep_core::record::Binding;
    use twinkeep_testkit::memory::Memory;

    use super::*;

    fn filled(count: usize) -> Memory {
        let mut map = Memory::default();
        for i in 0..count {
            let caller = CallerName::parse(&format!("c{i:05}")).unwrap();
            Binding { caller, grants: Vec::new(), revision: Revision::FIRST }.store(&mut map);
        }
        map
    }

    fn all_pages(map: &Memory, size: usize, wanted: impl Fn(&Binding) -> bool) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let name = |binding: &Binding| binding.caller.to_string();
            let page = read(map, after.as_ref(), size, &wanted, name).unwrap();
            pages.push(page.shown.iter().map(name).collect());
            if page.next_token.is_empty() {
                return pages;
            }
            after = Some(CallerName::parse(&page.next_token).unwrap());
        }
    }

    #[test]
    fn pages_show_every_row_once_in_order_and_end_without_an_empty_one() {
        for (count, size, pages) in [(0, 10, 1), (10, 10, 1), (11, 10, 2), (300, 100, 3), (5, 1, 5)]
        {
            let found = all_pages(&filled(count), size, |_| true);
            assert_eq!(found.len(), pages, "{count} by {size}");
            let names: Vec<_> = found.concat();
            let expected: Vec<_> = (0..count).map(|i| format!("c{i:05}")).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn filtered_list_looks_at_a_bounded_number_of_rows_per_page() {
        let last = format!("c{:05}", PAGE_ROWS_MAX);
        let found = all_pages(&filled(PAGE_ROWS_MAX + 1), 10, |b| b.caller.as_str() == last);
        assert_eq!(found, [vec![], vec![last.clone()]]);
    }
}
