"""The form for many faces at once: a cluster of them on one sheet, numbered; who it is, and which do not belong.

A task's data: `image`, the sheet; `cluster`, what it is called; `faces`, [sha256 of the photo, number of the face in
it] in the order of the numbers on the sheet, which start at 1; `people` and `numbers`, lists of {"value": ...} to
choose from. Somebody who is to stay unknown is among the people, as castline.labels.form.STRANGER. A task that is
skipped names nobody: that is for sheets on which no person has most of the faces.
"""

from castline.labels.form import NAME, PERSON

__all__ = ["CLUSTERS_CONFIG", "OTHERS"]

OTHERS = "others"
"""The control for the numbers of faces that are somebody else's."""

CLUSTERS_CONFIG = f"""<View>
  <Header value="$question"/>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <Header value="Who is it?"/>
  <Choices name="{PERSON}" toName="image" choice="single" layout="select" value="$people"/>
  <TextArea name="{NAME}" toName="image" maxSubmissions="1" placeholder="somebody else: the name"/>
  <Header value="Numbers of faces that are not this person's"/>
  <Choices name="{OTHERS}" toName="image" choice="multiple" layout="inline" value="$numbers"/>
</View>
"""
