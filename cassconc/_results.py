"""Results with later pages."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

from ._driver import QueryExhausted, ResultSet, turn_page


class PagedResultSet(ResultSet):  # type: ignore[misc]
    """A `ResultSet` whose later pages are fetched by requests of their own.

    A response future that is asked for another page takes any late answer for that page: one to
    an attempt that timed out, or of a speculative execution. A request of its own does not, and
    it has the full time limit again. Not thread-safe, like the driver's.
    """

    def __init__(self, response: Any, rows: Any, fetch: Callable[[Any], Any], traced: bool) -> None:
        super().__init__(response, rows)
        self._fetch = fetch
        self._traced = traced
        self._earlier: List[Any] = []  # response futures of earlier pages that were traced

    def fetch_next_page(self) -> None:
        """Fetch the next page and wait for it, like the driver's method of this name.

        Raises what the request ended with; after that the same page can be fetched again.
        """
        if not self.has_more_pages:
            super().fetch_next_page()
            return
        if not self.paging_state:
            raise QueryExhausted  # as the driver does; it would fetch the first page again
        page = self._fetch(self.paging_state)
        if self._traced:
            self._earlier.append(self.response_future)
        turn_page(self, page)

    def get_all_query_traces(self, max_wait_sec_per: Optional[float] = None) -> List[Any]:
        """Return the traces of all pages that were fetched, like the driver's method."""
        responses = self._earlier + [self.response_future]
        return [t for r in responses for t in r.get_all_query_traces(max_wait_sec_per)]
