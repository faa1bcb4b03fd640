"""Tables and plots of a study, made of the ``summary.json`` of its runs.

> python -m speechbrain_sumra.report results/small
"""

from speechbrain_sumra.report.document import write_report
from speechbrain_sumra.report.runs import ReportError

__all__ = ["ReportError", "write_report"]
