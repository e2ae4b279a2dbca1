import io
import json
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt

frame = pd.DataFrame(
    {
        "date": pd.date_range("2024-01-01", periods=120),
        "name": [c for c in "abcdef"] * 20,
        "value": np.sin(np.arange(120) / 9.0),
    }
)
text = frame.to_csv(index=False)
frame = pd.read_csv(io.StringIO(text), parse_dates=["date"])
print(frame.describe())
monthly = frame.groupby(frame["date"].dt.month)["value"].mean()
grouped = frame.groupby("name")["value"].agg(["mean", "max"])
print(monthly.to_string(), grouped.to_string())
figure, axes = plt.subplots(figsize=(6, 4))
axes.plot(frame["date"], frame["value"], label="value")
axes.bar(frame["date"][:5], frame["value"][:5])
axes.set_title("warm-up")
axes.legend()
plt.savefig(io.BytesIO(), format="png")
plt.show()
plt.plot([1, 2, 3])
display({"a": [1, 2, 3], "b": frame.head()})
json.dumps(grouped.to_dict())
frame.head()
