"""The form that labellers fill in: Label Studio's labelling config, and the names of what is in it.

A photo is a task. Each face is a rectangle with a name. The names to choose from come with the task, as `people`, so
that a cast of a thousand needs no config of its own; for somebody else's name there is a field to type it into.
"""

__all__ = ["FACES_CONFIG", "NAME", "NO_FACE", "PERSON", "QUALITY", "SCENE", "STRANGER", "UNNAMED"]

PERSON, NAME, QUALITY, SCENE = "person", "name", "quality", "scene"
"""The controls: rectangles, a name typed for one of them, how one looks, and what the whole photo is."""

STRANGER = "unknown_person"
"""The label of a face that is nobody's of the cast."""

UNNAMED = "not_named_yet"
"""The label that a face is shown with which no model names: left as it is, it says nothing of whose face it is."""

NO_FACE = "no_face"

FACES_CONFIG = f"""<View>
  <Image name="image" value="$image" zoom="true" zoomControl="true" rotateControl="true"/>
  <RectangleLabels name="{PERSON}" toName="image" value="$people" canRotate="true">
    <Label value="{STRANGER}"/>
    <Label value="{UNNAMED}" background="orange"/>
  </RectangleLabels>
  <TextArea name="{NAME}" toName="image" perRegion="true" maxSubmissions="1" placeholder="somebody else: the name"/>
  <Choices name="{QUALITY}" toName="image" perRegion="true" choice="single">
    <Choice value="clear"/><Choice value="blurred"/><Choice value="occluded"/>
  </Choices>
  <Choices name="{SCENE}" toName="image" choice="single">
    <Choice value="has_face"/><Choice value="{NO_FACE}"/>
  </Choices>
</View>
"""
