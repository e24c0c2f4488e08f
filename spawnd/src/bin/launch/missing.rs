//! Parts of the sandbox that kernel or rights deny: a refusal where policy requires them, else a
//! name for the record.

use proto::launch::Demand;

use crate::stop::Stop;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Without it there is no sandbox.
    Needed(&'static str),
    /// What kernels learned later, and a long-lived distribution's does not know: named, never
    /// refused.
    Wanted(&'static str),
}

pub(crate) struct Missing {
    demand: Demand,
    parts: Vec<String>,
}

impl Missing {
    pub(crate) fn new(demand: Demand) -> Self {
        Self { demand, parts: Vec::new() }
    }

    /// # Errors
    /// [`Stop::Unavailable`] if there is a part that is missing and required.
    pub(crate) fn note(&mut self, part: Option<Part>) -> Result<(), Stop> {
        match (part, self.demand) {
            (Some(Part::Needed(part)), Demand::Required) => return Err(Stop::Unavailable(part)),
            (Some(Part::Needed(part)), Demand::BestEffort) => self.parts.push(part.to_owned()),
            (Some(Part::Wanted(part)), _) => self.parts.push(part.to_owned()),
            (None, Demand::Required | Demand::BestEffort) => {}
        }
        Ok(())
    }

    pub(crate) fn into_parts(self) -> Vec<String> {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::launch::Record;
    use proto::spawn::RefusalCode;

    #[test]
    fn a_missing_part_is_refused_by_name_where_it_is_required() {
        let mut missing = Missing::new(Demand::Required);
        missing.note(None).unwrap();
        let Record::Refused { code, message } =
            missing.note(Some(Part::Needed("Landlock"))).unwrap_err().record()
        else {
            panic!("no refusal")
        };
        assert_eq!(code, RefusalCode::SandboxUnavailable);
        assert!(message.ends_with("Landlock"), "{message}");
    }

    #[test]
    fn what_only_newer_kernels_have_is_named_and_not_refused() {
        let mut missing = Missing::new(Demand::Required);
        missing.note(Some(Part::Wanted("Landlock scopes"))).unwrap();
        assert_eq!(missing.into_parts(), ["Landlock scopes"]);
    }

    #[test]
    fn a_missing_part_is_named_where_best_effort_is_enough() {
        let mut missing = Missing::new(Demand::BestEffort);
        missing.note(Some(Part::Needed("seccomp"))).unwrap();
        missing.note(None).unwrap();
        assert_eq!(missing.into_parts(), ["seccomp"]);
    }
}
