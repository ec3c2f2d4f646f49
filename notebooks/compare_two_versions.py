# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two versions side by side
#
# What `castline compare` prints, as values to go on with. The newest release is compared with what lies in the working
# folder; with two releases, name both. Nothing is checked out: git has the numbers.

# %%
from castline.evaluation.changes import changes_between
from castline.text import table
from castline.versions.facts import facts_at, facts_here
from castline.versions.listing import WORKSPACE, compare, describe, print_comparison, print_versions
from castline.versions.tags import read_registry

registry = read_registry()
print(print_versions(describe(registry)) if registry.versions else "no release yet: castline release minor")

# %%
names = list(registry.versions)
one, other = (names[0] if names else WORKSPACE), WORKSPACE
print(print_comparison(compare(registry, one, other)))

# %% [markdown]
# ## For whom it is better, for whom worse

# %%
before = facts_at(registry.find(one).commit) if one != WORKSPACE else facts_here()
changes = changes_between(one, before.state, facts_here().state)
rows = [("person", "before", "now")]
for change in (*changes.worse, *changes.better):
    rows.append((change.name, *(f"{right} of {faces}" for right, faces in (change.before, change.now))))
print(table(rows) if len(rows) > 1 else "the same for everybody")

# %%
for change in changes.settings:
    print(f"{change.name}: {change.before} → {change.now}")
print("batches added:", ", ".join(changes.batches_added) or "none")
