"""The workflows of one app, by name, with the plan of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.plan import Plan, plan_of
from stepwell.core.types import NO_PLAN_TYPES, PlanTypes
from stepwell.errors import DefinitionError, WorkflowNotRegisteredError
from stepwell.workflow.builder import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Registry:
    """The registered workflows and their plans."""

    def __init__(self, workflows: Iterable[Workflow] = ()) -> None:
        self._workflows: dict[str, Workflow] = {}
        self._plans: dict[str, Plan] = {}
        for workflow in workflows:
            self.add(workflow)

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans.values())

    def __contains__(self, name: object) -> bool:
        return name in self._workflows

    @property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted."""
        return tuple(sorted(self._workflows))

    def add(self, workflow: object) -> None:
        """Registers a workflow and closes it; raises DefinitionError for a second one of its name."""
        if not isinstance(workflow, Workflow):
            raise DefinitionError(f"Only a workflow made by durable() can be registered, got {workflow!r}.")
        if workflow.name in self._workflows:
            known = ", ".join(self.names)
            raise DefinitionError(f'A workflow "{workflow.name}" is already registered. Registered: {known}.')
        workflow.close()
        self._workflows[workflow.name] = workflow
        self._plans[workflow.name] = plan_of(workflow.name, workflow.nodes, workflow.input_type, self.types_of)

    def get_workflow(self, name: str) -> Workflow:
        """The workflow of that name; raises WorkflowNotRegisteredError."""
        found = self._workflows.get(str(name))
        if found is None:
            raise WorkflowNotRegisteredError(str(name), self.names)
        return found

    def get_plan(self, workflow: Workflow | str) -> Plan:
        """The plan of that workflow; raises WorkflowNotRegisteredError."""
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        found = self.get_workflow(name)
        if isinstance(workflow, Workflow) and workflow is not found:
            raise DefinitionError(f'Workflow "{name}" is not the object that is registered under this name.')
        return self._plans[name]

    def types_of(self, name: str) -> PlanTypes:
        """What the values of the workflow of that name are declared to be; nothing for one that is not registered."""
        plan = self._plans.get(name)
        return NO_PLAN_TYPES if plan is None else plan.types

    def check_children(self) -> None:
        """Raises WorkflowNotRegisteredError when a registered workflow has a child that is not."""
        for plan in self:
            for node, kind in zip(plan.nodes, plan.kinds, strict=True):
                child = kind.child(node)
                if child is not None and child not in self._workflows:
                    raise WorkflowNotRegisteredError(child, self.names, needed_by=plan.name)
