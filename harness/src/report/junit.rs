//! junit.xml: the run as a test suite, for CI. One test for each promise and each budget, and one for the run itself.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::check::Verdict;

use super::{budget::BudgetVerdict, judgement::Judgement, output::Output};

/// Writes junit.xml.
pub(super) struct Junit;

impl Output for Junit {
    fn file_name(&self) -> &'static str {
        "junit.xml"
    }

    fn about(&self) -> &'static str {
        "the run as a test suite, for CI"
    }

    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String> {
        let facts = &judgement.history.facts;
        let mut suite = TestSuite::new(format!("{} seed {}", facts.scenario, facts.seed));
        suite.add_test_case(whole(judgement));
        for finding in &judgement.findings {
            let status = match finding.verdict {
                Verdict::Pass => TestCaseStatus::success(),
                Verdict::Fail => failure(finding.witness.as_deref().unwrap_or_default()),
                Verdict::Unknown => error(finding.reason.as_deref().unwrap_or_default()),
                Verdict::NotJudged => {
                    let mut skipped = TestCaseStatus::skipped();
                    skipped.set_message(finding.reason.as_deref().unwrap_or_default());
                    skipped
                }
            };
            suite.add_test_case(case(format!("promise {}", finding.name), "promises", status));
        }
        for budget in &judgement.budgets {
            let status = match budget.verdict {
                BudgetVerdict::Pass => TestCaseStatus::success(),
                BudgetVerdict::Fail => failure(&format!("measured: {}", budget.actual_in_words())),
                BudgetVerdict::Unknown => error(&budget.why),
            };
            suite.add_test_case(case(format!("budget {}", budget.expr), "budgets", status));
        }
        let mut report = Report::new("firedrill");
        report.add_test_suite(suite);
        report.to_string().map(String::into_bytes).map_err(|e| e.to_string())
    }
}

fn whole(judgement: &Judgement) -> TestCase {
    let reasons = format!("{}\n\nagain: {}", judgement.reasons.join("\n"), judgement.reproduce());
    let status = match judgement.verdict() {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => failure(&reasons),
        Verdict::Unknown | Verdict::NotJudged => error(&reasons),
    };
    let mut case = case("run".to_owned(), "run", status);
    case.set_time(
        judgement
            .history
            .ended
            .since(crate::base::Nanos(0))
            .min(Duration::from_secs(31_536_000)),
    );
    case
}

fn case(name: String, classname: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("firedrill.{classname}"));
    case
}

fn failure(message: &str) -> TestCaseStatus {
    non_success(NonSuccessKind::Failure, message)
}

fn error(message: &str) -> TestCaseStatus {
    non_success(NonSuccessKind::Error, message)
}

fn non_success(kind: NonSuccessKind, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    status
}
