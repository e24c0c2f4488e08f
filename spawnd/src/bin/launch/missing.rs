//! Parts of the sandbox that kernel or rights deny: a refusal where policy requires them, else a
//! name for the record.

use proto::launch::Demand;

use crate::stop::Stop;

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
    pub(crate) fn note(&mut self, part: Option<&'static str>) -> Result<(), Stop> {
        match (part, self.demand) {
            (Some(part), Demand::Required) => return Err(Stop::Unavailable(part)),
            (Some(part), Demand::BestEffort) => self.parts.push(part.to_owned()),
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
            missing.note(Some("Landlock")).unwrap_err().record()
        else {
            panic!("no refusal")
        };
        assert_eq!(code, RefusalCode::SandboxUnavailable);
        assert!(message.ends_with("Landlock"), "{message}");
    }

    #[test]
    fn a_missing_part_is_named_where_best_effort_is_enough() {
        let mut missing = Missing::new(Demand::BestEffort);
        missing.note(Some("seccomp")).unwrap();
        missing.note(None).unwrap();
        assert_eq!(missing.into_parts(), ["seccomp"]);
    }
}
