"""A report in pages, of which one cannot be drawn at first."""

from stateview import StateManager

PAGES = ["cover", "orders", "rates", "stock", "sales", "summary"]

with StateManager(author="report.py") as state, state.run("report") as run:
    pages = run.step("plan", lambda: PAGES)
    for page in run.each("draw", pages):
        if page == "stock" and not state.load("stock_server", ""):
            raise ConnectionError("the stock server does not answer")
        state.save(f"page:{page}", {"lines": len(page) * 7, "state": "drawn"})
        print("drew", page)
    run.step("publish", state.save, "report", {"pages": len(pages), "state": "published"})
    print("published")
