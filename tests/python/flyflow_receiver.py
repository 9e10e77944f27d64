from flask import Flask, request, jsonify
app = Flask(__name__)
@app.route('/webhook', methods=['POST'])
def handle_webhook():
    payload = request.get_json()
    event_type = payload['event_type']
    call_id = payload['call_id']
    timestamp = payload['timestamp']
    data = payload['data']
    # Process the event based on the event_type
    if event_type == 'call_started':
        # Handle call started event
        print(f"Call started: {call_id}")
    elif event_type == 'call_ended':
        # Handle call ended event
        print(f"Call ended: {call_id}")
    elif event_type == 'tool_call':
        # Handle tool call event
        tool_name = data['tool_name']
        tool_input = data['tool_input']
        tool_output = data['tool_output']
        print(f"Tool called: {tool_name}")
        print(f"Tool input: {tool_input}")
        print(f"Tool output: {tool_output}")
    # Respond with a success status
    return jsonify({'status': 'success'}), 200
if __name__ == '__main__':
    app.run()
